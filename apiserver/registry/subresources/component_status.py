"""ComponentStatuses: nothing stored, every read asks how the control plane is (pkg/registry/core/
componentstatus).

Components of the same process say it themselves (``services["components"]``); others are asked on
the ports that upstream asks, 10257 and 10259 of this machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery.errors import new_bad_request, new_not_found
from pilothouse.apimachinery.fields import parse_field_selector
from pilothouse.apimachinery.labels import parse_selector
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.endpoints.table import TableWriter, partial_of

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

PORTS = {"controller-manager": 10257, "scheduler": 10259}
ETCD = "etcd-0"
_PROBE_SECONDS = 20.0
Said = tuple[str, str]
"""The condition's status and its message."""


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """:raises StatusError: 400, 404."""
    name, one = request.info.name, request.info.verb == "get"
    names = sorted((ETCD, *PORTS))
    if one:
        if name not in names:
            raise new_not_found(GroupResource("", "componentstatus"), name)
        names = [name]
    else:
        names = [each for each in names if _selects(request, each)]
    said = await asyncio.gather(*(_ask(server, each) for each in names))
    made = [_status(each, *answer) for each, answer in zip(names, said, strict=True)]
    negotiated = negotiate(request.headers.get("accept", ""))
    head: Obj = {"kind": served.gvk.kind, "apiVersion": served.api_version}
    if not request.local and negotiated.transform == "Table":
        writer = TableWriter(served, negotiated, "", server.clock.now())
        table: Obj = orjson.loads(writer.head(b"{}") + b"]}")
        for each in made:
            part = orjson.loads(partial_of(each, negotiated.meta_version))
            table["rows"].append({"cells": writer.cells(each), "object": part})
        return object_response(request, table)
    if one:
        return object_response(request, head | made[0])
    if request.local:
        made = [head | each for each in made]
    head = {"kind": f"{served.gvk.kind}List", "apiVersion": served.api_version}
    metadata = {"resourceVersion": ""} if request.local else {}
    return object_response(request, head | {"metadata": metadata, "items": made})


def _selects(request: Request, name: str) -> bool:
    try:
        labels = parse_selector(request.query_value("labelSelector"))
        fields = parse_field_selector(request.query_value("fieldSelector"))
    except ValueError as error:
        raise new_bad_request(str(error)) from error
    return labels.matches({}) and fields.matches({"metadata.name": name})


def _status(name: str, status: str, message: str) -> Obj:
    condition = {"type": "Healthy", "status": status, "message": message}
    return {"metadata": {"name": name}, "conditions": [condition]}


async def _ask(server: Server, name: str) -> Said:
    if name == ETCD:
        try:
            await server.storage.current_revision()
        except Exception as error:
            return "False", str(error)
        return "True", "ok"
    components: dict[str, Callable[[], str | None]] = server.services.get("components") or {}
    if name in components:
        trouble = components[name]()
        return ("True", "ok") if trouble is None else ("False", trouble)
    return await probe(PORTS[name])


async def probe(port: int) -> Said:
    """What https://127.0.0.1:<port>/healthz says."""
    where = f"127.0.0.1:{port}"
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            code, body = await _get(port)
    except ConnectionRefusedError:
        reason = f"dial tcp {where}: connect: connection refused"
        return "False", f'Get "https://{where}/healthz": {reason}'
    except (OSError, TimeoutError, ValueError) as error:
        return "False", f'Get "https://{where}/healthz": {error or "timed out"}'
    if 200 <= code < 400:
        return "True", body
    return "False", f"HTTP probe failed with statuscode: {code}"


async def _get(port: int) -> tuple[int, str]:
    """:raises OSError, ValueError: no HTTP answer came."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(b"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        head, _, body = (await reader.read(10240)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return int(head.split(b" ", 2)[1]), body.decode(errors="replace")
