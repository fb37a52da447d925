"""--max-requests-inflight and --max-mutating-requests-inflight: 429 over the limit.

Long-running requests do not count; system:masters always pass, as upstream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_too_many_requests
from pilothouse.apiserver.filters.deadline import is_long_running

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

_READS = frozenset(("get", "list", "watch"))
_MASTERS = "system:masters"


def with_max_in_flight(server: Server, handler: Handler) -> Handler:
    limits = (server.config.max_requests_inflight, server.config.max_mutating_requests_inflight)
    running = [0, 0]

    async def limited(request: Request) -> Response:
        info = request.info
        if is_long_running(info):
            return await handler(request)
        kind = 0 if info.verb in _READS else 1
        if limits[kind] and running[kind] >= limits[kind] and not _is_master(request):
            raise new_too_many_requests("Too many requests, please try again later.", 1)
        running[kind] += 1
        try:
            return await handler(request)
        finally:
            running[kind] -= 1

    return limited


def _is_master(request: Request) -> bool:
    return request.user is not None and _MASTERS in request.user.groups
