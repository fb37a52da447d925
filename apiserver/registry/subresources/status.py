"""``<kind>/status``: reads the object, writes nothing but its status (and some metadata)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.endpoints import get, patch, update

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    verb = request.info.verb
    if verb == "get":
        return await get.handle(server, request, served)
    if verb == "patch":
        return await patch.handle(server, request, served, mode="status")
    return await update.handle(server, request, served, mode="status")
