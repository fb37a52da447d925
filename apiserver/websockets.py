"""Streams for WebSocket clients: a container's log, a watch."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apiserver.request.context import Response
from pilothouse.componentbase.serving.websocket import (
    BINARY,
    TEXT,
    SendingWebSocket,
    WebSocketSink,
    choose_protocol,
    handshake,
    is_websocket,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from pilothouse.apiserver.endpoints.watch import WatchStream
    from pilothouse.apiserver.request.context import Request

READER_PROTOCOLS = ("", "binary.k8s.io", "base64.binary.k8s.io")


def wants_websocket(request: Request) -> bool:
    return request.upgrade is not None and is_websocket(request.headers)


async def accept(request: Request, protocols: Collection[str]) -> tuple[SendingWebSocket, str]:
    """Takes the connection over and answers the handshake. :raises StatusError: 400."""
    assert request.upgrade is not None
    protocol = choose_protocol(request.headers, protocols)
    if protocol is None and protocols:
        offered = request.headers.get("sec-websocket-protocol", "")
        raise new_bad_request(f"requested protocol(s) are not supported: [{offered}]")
    try:
        answer = handshake(request.headers, protocol or "")
    except ValueError as error:
        raise new_bad_request(str(error)) from error
    reader, writer = await request.upgrade()
    writer.write(answer)
    return SendingWebSocket(reader, writer), protocol or ""


async def send_stream(request: Request, chunks: AsyncIterator[bytes]) -> Response:
    """``chunks`` as messages, until they end or the client leaves."""
    socket, protocol = await accept(request, READER_PROTOCOLS)
    encode = protocol == "base64.binary.k8s.io"
    opcode = TEXT if encode else BINARY

    async def copy() -> None:
        socket.send(b"", opcode)
        async for chunk in chunks:
            socket.send(base64.b64encode(chunk) if encode else chunk, opcode)
            await socket.drain()

    await _race(socket, copy())
    return Response(hijacked=True)


async def send_watch(request: Request, stream: WatchStream) -> Response:
    """Events as text messages, one each."""
    socket, _ = await accept(request, ())
    sink = WebSocketSink(socket)
    stop = stream.start(sink)
    try:
        await _race(socket, _until(sink.ended))
    finally:
        stop()
    return Response(hijacked=True)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _race(socket: SendingWebSocket, sending: object) -> None:
    """Runs ``sending`` until it ends or the client closes."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(socket.receive()), loop.create_task(sending)]  # type: ignore[arg-type]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await socket.close()
