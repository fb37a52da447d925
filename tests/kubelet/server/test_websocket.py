from __future__ import annotations

import asyncio

import pytest
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from pilothouse.kubelet.server import websocket
from pilothouse.kubelet.server.websocket import WebSocket, WebSocketTransport

from .conftest import Pair, WebSocketClient


async def connect(pair: Pair) -> tuple[WebSocket, WebSocketClient]:
    ours, theirs = await pair()
    return WebSocket(*ours, linger=0.2), WebSocketClient(theirs)


async def test_messages_both_ways(pair: Pair) -> None:
    socket, client = await connect(pair)
    client.send_event(BytesMessage(b"first ", message_finished=False))
    client.send_event(BytesMessage(b"half"))
    client.send_event(TextMessage("täxt"))
    assert await socket.receive() == b"first half"
    assert await socket.receive() == "täxt".encode()
    await socket.send(b"x" * 200_000)
    await socket.send("text")
    await client.until(lambda: "text" in client.messages)
    assert b"".join(m for m in client.messages if isinstance(m, bytes)) == b"x" * 200_000


async def test_pings_are_answered(pair: Pair) -> None:
    socket, client = await connect(pair)
    client.send_event(Ping(b"beat"))
    client.send_event(BytesMessage(b"m"))
    assert await socket.receive() == b"m"
    await client.until(lambda: client.pongs == [b"beat"])


async def test_the_client_closes(pair: Pair) -> None:
    socket, client = await connect(pair)
    client.send_event(CloseConnection(1000))
    assert await socket.receive() is None
    assert await socket.receive() is None
    with pytest.raises(ConnectionError):
        await socket.send(b"x")
    await socket.close()
    await client.rest()
    assert client.closed is not None and client.closed.code == 1000


async def test_we_close(pair: Pair) -> None:
    socket, client = await connect(pair)
    client.send_event(BytesMessage(b"never read"))
    closing = asyncio.create_task(socket.close())
    await client.rest()
    assert client.closed is not None and client.closed.code == 1000
    await closing


async def test_the_end_follows_our_close_frame_at_once(pair: Pair) -> None:
    ours, theirs = await pair()
    closing = asyncio.create_task(WebSocket(*ours, linger=60).close())
    client = WebSocketClient(theirs)
    async with asyncio.timeout(5):
        assert await client.reader.read() == b"\x88\x02\x03\xe8"  # to the end of the stream
    client.writer.close()
    await closing


async def test_closing_does_not_wait_for_a_silent_client(pair: Pair) -> None:
    socket, _ = await connect(pair)
    async with asyncio.timeout(5):
        await socket.close()


async def test_the_client_vanishes(pair: Pair) -> None:
    socket, client = await connect(pair)
    client.writer.close()
    assert await socket.receive() is None


async def test_frames_that_break_the_protocol(pair: Pair) -> None:
    socket, client = await connect(pair)
    client.writer.write(b"\xff\xff\xff\xff")
    assert await socket.receive() is None
    await socket.close()


async def test_messages_have_a_limit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_MESSAGE", 1000)
    socket, client = await connect(pair)
    client.send_event(BytesMessage(b"x" * 1001))
    assert await socket.receive() is None
    await client.until(lambda: client.closed is not None)
    assert client.closed is not None and client.closed.code == 1009


async def test_as_a_byte_stream(pair: Pair) -> None:
    socket, client = await connect(pair)
    transport = WebSocketTransport(socket)
    client.send_event(BytesMessage(b""))
    client.send_event(BytesMessage(b"abc"))
    assert await transport.read() == b"abc"
    await transport.write(b"def")
    await client.until(lambda: client.messages == [b"def"])
    client.writer.close()
    assert await transport.read() == b""
