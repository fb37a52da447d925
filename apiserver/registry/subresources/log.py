"""``pods/log``: a container's log, streamed from the kubelet."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pilothouse.apimachinery.errors import (
    StatusError,
    new_bad_request,
    new_internal_error,
    new_invalid,
)
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.apis.core.validation_pod import validate_log_options
from pilothouse.apiserver.endpoints.options import parse_bool, parse_int
from pilothouse.apiserver.registry.subresources.pods import container_of, live_pod
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.websockets import send_stream, wants_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Query, Request

TEXT = "text/plain"


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    params = log_params(request.query, request.info.name)
    pod = await live_pod(request, served)
    container = container_of(pod, request.query_value("container"))
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        return Response(204, content_type="")
    metadata = pod["metadata"]
    response = await server.nodes.request(
        node,
        "GET",
        f"/containerLogs/{metadata['namespace']}/{metadata['name']}/{container}",
        urlencode(params),
    )
    if response.status != 200:
        raise kubelet_error(response.status, await _text(response), metadata["name"])
    if request.upgrade is not None and wants_websocket(request):
        return await send_stream(request, response.chunks or _once(response.body))
    return Response(content_type=TEXT, body=response.body, chunks=response.chunks, gzip_above=None)


def kubelet_error(code: int, text: str, pod: str) -> StatusError:
    """A kubelet's refusal as the client gets it (GenericHttpResponseChecker)."""
    if code == 400:
        return new_bad_request(text)
    if code == 500:
        return new_internal_error(text)
    message = (
        f"the server responded with the status code {code} but did not return more information"
    )
    if code == 404:
        message = "the server could not find the requested resource"
    return StatusError(
        code,
        "NotFound" if code == 404 else "Unknown",
        f"{message} ( pods/log {pod})",
        {
            "name": pod,
            "kind": "pods/log",
            "causes": [{"reason": "UnexpectedServerResponse", "message": text}],
        },
    )


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _text(response: Response) -> str:
    """A kubelet's error as it wrote it."""
    data = response.body
    if response.chunks is not None:
        data = b"".join([chunk async for chunk in response.chunks])
    return data.decode("utf-8", "replace").strip()


def log_params(query: Query, pod: str) -> list[tuple[str, str]]:
    """PodLogOptions for the kubelet. :raises StatusError: 400, 422 (ValidatePodLogOptions)."""
    params = [
        (name, "true") for name in ("follow", "previous", "timestamps") if parse_bool(query, name)
    ]
    numbers = {name: parse_int(query, name) for name in ("sinceSeconds", "tailLines", "limitBytes")}
    options: Obj = {name: value for name, value in numbers.items() if value is not None}
    moment = (query.get("sinceTime") or [""])[0]
    if moment:
        options["sinceTime"] = moment
    if query.get("stream"):
        options["stream"] = query["stream"][0]
    errors = validate_log_options(options)
    if errors:
        raise new_invalid(GroupKind("", "PodLogOptions"), pod, errors)
    params += [(name, str(value)) for name, value in numbers.items() if value is not None]
    if moment:
        try:
            parse_time(moment)
        except ValueError as error:
            raise new_bad_request(f'parsing time "{moment}": {error}') from error
        params.append(("sinceTime", moment))
    return params
