"""``pods/exec``, ``attach`` and ``portforward``: the client's connection goes to the kubelet.

The API server checks the pod and asks admission, then passes bytes through: the handshake and
the framing (WebSocket channels, SPDY streams) are the kubelet's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pilothouse.apimachinery.errors import StatusError, new_bad_request
from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apiserver.filters.authorization import attributes_of, check_remotely
from pilothouse.apiserver.registry.subresources.pods import container_of, live_pod, node_of
from pilothouse.apiserver.registry.write import Write
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Query, Request

_FLAGS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))


async def execute(server: Server, request: Request, served: ServedResource) -> Response:
    return await _stream(server, request, served, "exec", "PodExecOptions")


async def attach(server: Server, request: Request, served: ServedResource) -> Response:
    return await _stream(server, request, served, "attach", "PodAttachOptions")


async def port_forward(server: Server, request: Request, served: ServedResource) -> Response:
    return await _stream(server, request, served, "portForward", "PodPortForwardOptions")


async def _stream(
    server: Server, request: Request, served: ServedResource, path: str, kind: str
) -> Response:
    if request.query.get("dryRun"):
        raise new_bad_request("dryRun is not supported")
    if request.info.verb != "create":
        # A WebSocket comes as a GET; it still needs the right to create (since v1.35).
        question = replace(attributes_of(request), verb="create")
        await check_remotely(server.authorizer, question)
    options = connect_options(request.query, kind)
    admitted = await admit_connect(server, request, served, kind, options)
    pod = await live_pod(request, served)
    asked = request.query if admitted == options else _as_query(admitted)
    target, query = kubelet_target(pod, path, asked)
    node = node_of(pod)
    if request.upgrade is None:
        raise new_bad_request("Upgrade request required")
    reader, writer = await request.upgrade()
    try:
        await server.nodes.upgrade(
            node, request.method, target, query, request.headers, reader, writer
        )
    except StatusError as error:
        writer.write(refusal(error))
    finally:
        writer.close()
    return Response(hijacked=True)


def refusal(error: StatusError) -> bytes:
    """An HTTP answer on a connection that was taken over before anything was written to it."""
    from pilothouse.apiserver.endpoints.responses import error_response

    response = error_response(error)
    head = (
        f"HTTP/1.1 {error.code} {error.reason}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(response.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + response.body


def kubelet_target(pod: Obj, path: str, query: Query) -> tuple[str, str]:
    """(path, encoded query) at the kubelet. :raises StatusError: 400."""
    metadata = pod["metadata"]
    target = f"/{path}/{metadata['namespace']}/{metadata['name']}"
    if path == "portForward":
        ports = [port for value in query.get("ports", ()) for port in value.split(",") if port]
        return target, urlencode([("port", ",".join(ports))]) if ports else ""
    container = container_of(pod, (query.get("container") or [""])[0])
    params = [(name, "1") for option, name in _FLAGS if _flag(query, option)]
    if path == "exec":
        params += [("command", part) for part in query.get("command", ())]
    return f"{target}/{container}", urlencode(params)


def _flag(query: Query, name: str) -> bool:
    values = query.get(name)
    return bool(values) and values is not None and values[0].lower() not in ("false", "0")


def connect_options(query: Query, kind: str) -> Obj:
    """The options object of ``kind`` that the query stands for, as admission sees it."""
    options: Obj = {"kind": kind, "apiVersion": "v1"}
    if kind == "PodPortForwardOptions":
        texts = [text for value in query.get("ports", ()) for text in value.split(",")]
        ports = [int(text) for text in texts if text.isdigit()]
        return options | {"ports": ports} if ports else options
    options |= {name: True for name, _ in _FLAGS if _flag(query, name)}
    container = (query.get("container") or [""])[0]
    if container:
        options["container"] = container
    if kind == "PodExecOptions":
        options["command"] = query.get("command", [])
    return options


def _as_query(options: Obj) -> Query:
    """The other way, for options that admission has changed."""
    query: Query = {name: ["true"] for name, _ in _FLAGS if options.get(name)}
    if options.get("container"):
        query["container"] = [options["container"]]
    query["command"] = list(options.get("command") or ())
    query["ports"] = [str(port) for port in options.get("ports") or ()]
    return query


async def admit_connect(
    server: Server, request: Request, served: ServedResource, kind: str, options: Obj
) -> Obj:
    """CONNECT admission; returns the options, which it may change. :raises StatusError: refused."""
    info = request.info
    assert request.user is not None
    write = Write(
        served,
        info.namespace,
        info.name,
        request.user,
        subresource=info.subresource,
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
        kind=GroupVersionKind("", "v1", kind),
    )
    options = {"kind": kind, "apiVersion": "v1", **options}
    attributes = write.attributes("CONNECT", options, None)
    await server.admission.admit(attributes)
    await server.admission.validate(attributes)
    return attributes.obj or options
