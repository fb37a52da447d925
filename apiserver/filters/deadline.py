"""--request-timeout for requests that change something; reads have bounds of their own.

Long-running requests (watches, logs, exec, proxies) have none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_timeout

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response
    from pilothouse.apiserver.request.info import RequestInfo

_READS = frozenset(("get", "list", "watch"))
_LONG_SUBRESOURCES = frozenset(("attach", "exec", "log", "portforward", "proxy"))


def is_long_running(info: RequestInfo) -> bool:
    """Upstream's BasicLongRunningRequestCheck."""
    return info.verb in ("watch", "proxy") or info.subresource in _LONG_SUBRESOURCES


def with_deadline(server: Server, handler: Handler) -> Handler:
    seconds = server.config.request_timeout

    async def limited(request: Request) -> Response:
        info = request.info
        if info.verb in _READS or is_long_running(info):
            return await handler(request)
        try:
            async with asyncio.timeout(seconds):
                return await handler(request)
        except TimeoutError:
            raise new_timeout("request did not complete within the allotted timeout", 0) from None

    return limited
