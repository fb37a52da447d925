"""Both ends of a connection, as streams, and a SPDY or WebSocket client on one of them."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Pong

from pilothouse.kubelet.server.spdy_frames import Data, Frame, Framer, SynStream

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Pair = Callable[[], Awaitable[tuple[Streams, Streams]]]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    writers: list[asyncio.StreamWriter] = []

    async def make() -> tuple[Streams, Streams]:
        ends = []
        for end in socket.socketpair():
            end.setblocking(False)
            ends.append(await asyncio.open_connection(sock=end))
            writers.append(ends[-1][1])
        return ends[0], ends[1]

    yield make
    for writer in writers:
        writer.close()
    for writer in writers:
        try:
            await writer.wait_closed()
        except OSError:
            pass


class Changes:
    """Waiting for what other tasks do, without polling."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class SpdyClient:
    """What kubectl does, frame by frame."""

    def __init__(self, streams: Streams) -> None:
        self.reader, self.writer = streams
        self.framer = Framer()
        self.frames: list[Frame] = []
        self.next_id = 1

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    def send(self, frame: Frame) -> None:
        self.writer.write(self.framer.encode(frame))

    def open(self, **headers: str) -> int:
        stream_id, self.next_id = self.next_id, self.next_id + 2
        self.send(SynStream(stream_id, {name.lower(): value for name, value in headers.items()}))
        return stream_id

    async def until(self, done: Callable[[], bool]) -> None:
        """Reads frames until ``done``. Fails when the server closes before."""
        async with asyncio.timeout(10):
            while not done():
                data = await self.reader.read(65536)
                assert data, f"closed by the server after {self.frames}"
                self.frames += self.framer.feed(data)

    async def rest(self) -> None:
        """Until the server ends; then we leave, too, as kubectl does."""
        async with asyncio.timeout(10):
            while data := await self.reader.read(65536):
                self.frames += self.framer.feed(data)
        self.writer.close()

    def data(self, stream_id: int) -> bytes:
        return b"".join(
            f.data for f in self.frames if isinstance(f, Data) and f.stream_id == stream_id
        )

    def finished(self, stream_id: int) -> bool:
        return any(isinstance(f, Data) and f.stream_id == stream_id and f.fin for f in self.frames)


class WebSocketClient:
    def __init__(self, streams: Streams) -> None:
        self.reader, self.writer = streams
        self.connection = Connection(ConnectionType.CLIENT)
        self.messages: list[bytes | str] = []
        self.closed: CloseConnection | None = None
        self.pongs: list[bytes] = []

    @staticmethod
    def headers(protocol: str) -> dict[str, str]:
        headers = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": base64.b64encode(b"0123456789abcdef").decode(),
        }
        return headers | ({"sec-websocket-protocol": protocol} if protocol else {})

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    def send_event(self, event: Event) -> None:
        self.writer.write(self.connection.send(event))

    def send(self, channel: int, data: bytes) -> None:
        self.send_event(BytesMessage(bytes((channel,)) + data))

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                data = await self.reader.read(65536)
                assert data, f"closed by the server after {self.messages}"
                self._take(data)

    async def rest(self) -> None:
        """Until the server closes; its close frame is answered."""
        async with asyncio.timeout(10):
            while data := await self.reader.read(65536):
                self._take(data)

    def _take(self, data: bytes) -> None:
        self.connection.receive_data(data)
        for event in self.connection.events():
            if isinstance(event, Message):
                part = event.data if isinstance(event.data, str) else bytes(event.data)
                self.messages.append(part)
            elif isinstance(event, Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                self.closed = event
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    self.send_event(event.response())
                self.writer.close()

    def data(self, channel: int) -> bytes:
        return b"".join(
            m[1:] for m in self.messages if isinstance(m, bytes) and m[:1] == bytes((channel,))
        )
