"""A WebSocket that only sends: logs and watches for browsers (streaming/httpstream/wsstream).

The handshake and one direction of RFC 6455 frames; what the client sends is read only to
answer pings and to notice that it closes. Interactive streams (exec, attach, port-forward) pass
through to the kubelet instead.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING

from pilothouse.componentbase.serving.interfaces import unframe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_NORMAL_CLOSE = (1000).to_bytes(2, "big")
_MAX_INCOMING = 1 << 20


def is_websocket(headers: Mapping[str, str]) -> bool:
    return (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("connection", "").lower()
    )


def choose_protocol(headers: Mapping[str, str], supported: Collection[str]) -> str | None:
    """The first offered sub-protocol that is supported; "" when none is offered and that is
    supported; None when nothing fits."""
    offered = [p.strip() for p in headers.get("sec-websocket-protocol", "").split(",")]
    for protocol in offered:
        if protocol in supported:
            return protocol
    return None


def handshake(headers: Mapping[str, str], protocol: str) -> bytes:
    """The 101 answer. :raises ValueError: the client sent no key."""
    key = headers.get("sec-websocket-key", "").encode()
    if not key:
        raise ValueError("missing Sec-WebSocket-Key")
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
    ]
    if protocol:
        lines.append(b"Sec-WebSocket-Protocol: " + protocol.encode())
    return b"\r\n".join(lines) + b"\r\n\r\n"


def frame(payload: bytes, opcode: int) -> bytes:
    """One unmasked, final frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


class SendingWebSocket:
    """A connection that was taken over. ``run`` must be awaited for as long as it is used."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.closed = asyncio.Event()

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        if not self.closed.is_set():
            self._writer.write(frame(payload, opcode))

    async def drain(self) -> None:
        await self._writer.drain()

    @property
    def backlog(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def receive(self) -> None:
        """Reads until the client closes or breaks the protocol."""
        try:
            while True:
                opcode, payload = await self._frame()
                if opcode == CLOSE:
                    return
                if opcode == PING:
                    self.send(payload, PONG)
        except (OSError, EOFError, ValueError):
            return
        finally:
            self.closed.set()

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self._reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._reader.readexactly(8), "big")
        if size > _MAX_INCOMING or not second & 0x80:
            raise ValueError("a frame that clients must not send")
        mask = await self._reader.readexactly(4)
        payload = await self._reader.readexactly(size)
        return first & 0x0F, bytes(b ^ mask[i & 3] for i, b in enumerate(payload))

    async def close(self) -> None:
        """Says goodbye and closes the connection."""
        try:
            self._writer.write(frame(_NORMAL_CLOSE, CLOSE))
            await self._writer.drain()
        except OSError:
            pass
        self.closed.set()
        self._writer.close()


class WebSocketSink:
    """A :class:`~.interfaces.Sink` that makes a text message of each line."""

    def __init__(self, socket: SendingWebSocket) -> None:
        self._socket = socket
        self.ended = asyncio.Event()

    @property
    def writable(self) -> bool:
        return self._socket.backlog < _MAX_INCOMING

    def write(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            self._socket.send(line, TEXT)

    def write_framed(self, framed: bytes) -> None:
        self.write(unframe(framed))

    def on_writable(self, callback: Callable[[], None]) -> None:
        # Rare enough to ask again; the watcher's bounded buffer ends what never gets there.
        asyncio.get_running_loop().call_later(0.05, callback)

    def end(self) -> None:
        self.ended.set()
