"""--max-requests-inflight and --max-mutating-requests-inflight: 429 over the limit.

Only with --enable-priority-and-fairness=false; otherwise the two are what that shares out.
Long-running requests do not count; system:masters always pass, as upstream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.filters.deadline import is_long_running
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request

READS = frozenset(("get", "list", "watch"))
_MASTERS = "system:masters"


def with_max_in_flight(server: Server, handler: Handler) -> Handler:
    if server.services.get("flowcontrol") is not None:
        return handler
    limits = (server.config.max_requests_inflight, server.config.max_mutating_requests_inflight)
    running = server.services.setdefault("inflight", [0, 0])

    async def limited(request: Request) -> Response:
        info = request.info
        if is_long_running(info):
            return await handler(request)
        kind = 0 if info.verb in READS else 1
        if limits[kind] and running[kind] >= limits[kind] and not _is_master(request):
            return too_many_requests()
        running[kind] += 1
        try:
            return await handler(request)
        finally:
            running[kind] -= 1

    return limited


def too_many_requests() -> Response:
    """Plain text, as upstream: no object is decoded to read it."""
    return Response(
        429,
        b"Too many requests, please try again later.\n",
        "text/plain; charset=utf-8",
        [("X-Content-Type-Options", "nosniff"), ("Retry-After", "1")],
    )


def _is_master(request: Request) -> bool:
    return request.user is not None and _MASTERS in request.user.groups
