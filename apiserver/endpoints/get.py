"""GET of one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.responses import entry_response

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """:raises StatusError: 400, 404, 406, 504."""
    info = request.info
    version = ""
    if request.query:
        if request.query.get("export", ["false"])[0].lower() not in ("false", "0"):
            raise new_bad_request(
                "the export parameter, deprecated since v1.14, is no longer supported"
            )
        version = request.query_value("resourceVersion")
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    entry = await served.store.get(info.namespace, info.name, version)
    return entry_response(request, served, entry, server.clock.now())
