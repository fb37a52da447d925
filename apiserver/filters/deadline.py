"""--request-timeout for requests that change something; reads have bounds of their own.

A client may want less (``?timeout=``), for reads too. Long-running requests (watches, logs, exec,
proxies) have none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request, new_timeout
from pilothouse.apimachinery.timefmt import parse_duration

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response
    from pilothouse.apiserver.request.info import RequestInfo

_READS = frozenset(("get", "list", "watch", "head"))
_LONG_SUBRESOURCES = frozenset(("attach", "exec", "log", "portforward", "proxy"))


def is_long_running(info: RequestInfo) -> bool:
    """Upstream's BasicLongRunningRequestCheck."""
    return info.verb in ("watch", "proxy") or info.subresource in _LONG_SUBRESOURCES


def _asked(text: str) -> float:
    """Seconds of ``?timeout=``; 0 for none. :raises StatusError: 400, it is no duration."""
    try:
        return max(0.0, parse_duration(text)) if text else 0.0
    except ValueError as error:
        message = f"invalid timeout specified in the request URL - {error}"
        raise new_bad_request(message) from None


def with_deadline(server: Server, handler: Handler) -> Handler:
    seconds = server.config.request_timeout

    async def limited(request: Request) -> Response:
        info = request.info
        if is_long_running(info):
            return await handler(request)
        allowed = seconds
        if "timeout" in request.query:
            allowed = _asked(request.query["timeout"][0]) or seconds
        if info.verb in _READS:
            return await handler(request)
        try:
            async with asyncio.timeout(min(seconds, allowed)):
                return await handler(request)
        except TimeoutError:
            raise new_timeout("request did not complete within the allotted timeout", 0) from None

    return limited
