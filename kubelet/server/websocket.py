"""One accepted WebSocket connection on raw streams: messages in and out.

Framing is wsproto's; the handshake has been done (``handshake.py``). Pings are answered while
somebody receives. One task receives, any number send.
"""

from __future__ import annotations

import asyncio
from collections import deque

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError

READ_SIZE = 64 * 1024
MAX_MESSAGE = 32 << 20
LINGER_SECONDS = 2.0
NORMAL_CLOSURE = 1000
MESSAGE_TOO_BIG = 1009


class WebSocket:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._linger = linger
        self._connection = Connection(ConnectionType.SERVER)
        self._lock = asyncio.Lock()
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False

    # -- receiving -----------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """The next message (text ones encoded); None when the client has left."""
        while not self._messages:
            if self._ended or not await self._fill():
                return None
        return self._messages.popleft()

    async def _fill(self) -> bool:
        try:
            data = await self._reader.read(READ_SIZE)
            if not data:
                self._ended = True
                return False
            self._connection.receive_data(data)
            for event in self._connection.events():
                await self._on_event(event)
        except (OSError, LocalProtocolError):
            self._ended = True
        return True

    async def _on_event(self, event: Event) -> None:
        if isinstance(event, Message):
            data = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
            self._parts.append(data)
            self._size += len(data)
            if self._size > MAX_MESSAGE:
                await self._send_event(CloseConnection(MESSAGE_TOO_BIG, "message too big"))
                self._ended = True
            elif event.message_finished:
                self._messages.append(b"".join(self._parts))
                self._parts.clear()
                self._size = 0
        elif isinstance(event, Ping):
            await self._send_event(event.response())
        elif isinstance(event, CloseConnection):
            self._ended = True
            if self._connection.state is ConnectionState.REMOTE_CLOSING:
                await self._send_event(event.response())
            elif self._connection.state is ConnectionState.OPEN:
                # wsproto's word for a frame that breaks the protocol.
                await self._send_event(CloseConnection(event.code, event.reason))

    # -- sending -------------------------------------------------------------------------

    async def send(self, data: bytes | str) -> None:
        """One whole message. :raises ConnectionError: the client has left."""
        if isinstance(data, str):
            await self._send_event(TextMessage(data))
        else:
            await self._send_event(BytesMessage(data))

    async def _send_event(self, event: Event) -> None:
        async with self._lock:
            try:
                encoded = self._connection.send(event)
            except LocalProtocolError as error:
                raise ConnectionResetError("the WebSocket is closed") from error
            if self._writer.is_closing():
                raise ConnectionResetError("the client has left")
            self._writer.write(encoded)
            await self._writer.drain()

    async def close(self, code: int = NORMAL_CLOSURE) -> None:
        """Sends a close frame and, as upstream, the end of the connection right behind it: there
        are clients that still read while they close. Nobody may receive."""
        try:
            async with asyncio.timeout(self._linger):
                if self._connection.state is ConnectionState.OPEN:
                    await self._send_event(CloseConnection(code))
                if end_of_stream(self._writer):
                    while not self._ended and await self._fill():
                        self._messages.clear()
        except OSError:
            self._writer.transport.abort()
        finally:
            self._writer.close()


def end_of_stream(writer: asyncio.StreamWriter) -> bool:
    """Tells the client that no more comes. True: what it still sends is to be read for a while,
    since unread bytes would make the kernel reset the connection and lose our last ones. (Our
    TLS connections do that themselves once they are closed.)"""
    if not writer.can_write_eof():
        return False
    writer.write_eof()
    return True


class WebSocketTransport:
    """A byte stream in the binary messages of a WebSocket (SPDY tunnelled by kubectl)."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while (message := await self._socket.receive()) is not None:
            if message:
                return message
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    async def close(self) -> None:
        await self._socket.close()


class SocketTransport:
    """A byte stream that is the connection itself."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._linger = linger
        self._lock = asyncio.Lock()

    async def read(self) -> bytes:
        try:
            return await self._reader.read(READ_SIZE)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        async with self._lock:
            if self._writer.is_closing():
                raise ConnectionResetError("the client has left")
            self._writer.write(data)
            await self._writer.drain()

    async def close(self) -> None:
        try:
            async with asyncio.timeout(self._linger):
                if end_of_stream(self._writer):
                    while await self.read():
                        pass
        except OSError:
            self._writer.transport.abort()
        finally:
            self._writer.close()
