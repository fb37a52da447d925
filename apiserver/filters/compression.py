"""gzip for big answers, off by default (--response-compression).

Upstream compresses answers over 128 KiB for every Go client. Measured here: gzip's fastest
level costs 3.5 ms of CPU a megabyte (level 4: 6 ms), a LIST of 5,000 pods (some 10 MB) costs
16 ms over TLS without it. So compressing would triple the cost of lists for clients that are
mostly on the same machine; it is a choice for slow links. It runs in a worker thread, chunk by
chunk; watches are never touched.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

THRESHOLD = 128 * 1024
_LEVEL = 1
_GZIP = 31
"""zlib's window bits for a gzip header."""


def with_compression(server: Server, handler: Handler) -> Handler:
    if not server.config.response_compression:
        return handler

    async def compressed(request: Request) -> Response:
        response = await handler(request)
        if request.method != "GET" or request.info.verb not in ("get", "list"):
            return response
        if request.info.subresource or "gzip" not in request.headers.get("accept-encoding", ""):
            return response
        if response.chunks is not None:
            response.chunks = _stream(response.chunks)
        elif len(response.body) > THRESHOLD:
            response.body = await asyncio.to_thread(_whole, response.body)
        else:
            return response
        response.headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        return response

    return compressed


def _whole(body: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return packer.compress(body) + packer.flush()


async def _stream(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    async for chunk in chunks:
        packed = await asyncio.to_thread(packer.compress, chunk)
        if packed:
            yield packed
    yield packer.flush()
