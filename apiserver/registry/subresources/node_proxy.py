"""``nodes/proxy``: HTTP to a node's kubelet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.registry.subresources.proxying import (
    admit_proxy,
    kubelet_proxy,
    split_target,
)

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    await admit_proxy(server, request, served)
    _, name, _ = split_target(request.info.name, "node")
    await served.store.get("", name)
    return await kubelet_proxy(server, request, served, name)
