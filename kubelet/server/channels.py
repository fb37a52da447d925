"""Kubernetes' channels over one WebSocket: the first byte of a message says which.

``channel.k8s.io`` sends it raw, ``base64.channel.k8s.io`` as a digit before base64 text. From v5
on a client ends a channel with the message ``[255, channel]``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from pilothouse.kubelet.server.interfaces import Inbox
from pilothouse.kubelet.server.websocket import WebSocket

STREAM_CLOSE = 255
CHANNEL = "channel.k8s.io"
BASE64_CHANNEL = "base64.channel.k8s.io"


class Channels:
    """``inboxes`` has the readable channels; whatever is sent to others is dropped."""

    def __init__(self, socket: WebSocket, protocol: str, count: int, readable: Iterable[int]):
        self._socket = socket
        self._base64 = "base64." in protocol
        self._stream_close = protocol.startswith("v5.")
        self._count = count
        self.inboxes = {number: Inbox() for number in readable}

    async def run(self) -> None:
        """Distributes messages until the client has left; then all channels end."""
        try:
            while (message := await self._socket.receive()) is not None:
                if message and not await self._deliver(message):
                    return
        finally:
            for inbox in self.inboxes.values():
                inbox.feed_eof()

    async def _deliver(self, message: bytes) -> bool:
        """False for a message after which the connection makes no sense any more."""
        number = message[0]
        if self._stream_close and number == STREAM_CLOSE:
            if len(message) != 2 or message[1] >= self._count:
                return False
            inbox = self.inboxes.get(message[1])
            if inbox is not None:
                inbox.feed_eof()
            return True
        data = message[1:]
        if self._base64:
            number -= ord("0")
            try:
                data = base64.b64decode(data, validate=True)
            except binascii.Error:
                return True
        inbox = self.inboxes.get(number)
        if inbox is not None:
            inbox.feed(data)
            await inbox.room()
        return True

    async def write(self, number: int, data: bytes) -> None:
        """:raises ConnectionError: the client has left."""
        if self._base64:
            await self._socket.send(chr(ord("0") + number) + base64.b64encode(data).decode())
        else:
            await self._socket.send(bytes((number,)) + data)


class ChannelStream:
    """One channel as a stream. Closing is only remembered: the protocol has no word for it."""

    def __init__(self, channels: Channels, number: int) -> None:
        self._channels = channels
        self._number = number
        self._inbox = channels.inboxes.get(number)
        self._closed = False

    async def read(self) -> bytes:
        return await self._inbox.read() if self._inbox is not None else b""

    def discard(self) -> None:
        if self._inbox is not None:
            self._inbox.discard()

    async def write(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionResetError("the channel is closed")
        await self._channels.write(self._number, data)

    async def close(self) -> None:
        self._closed = True

    async def reset(self) -> None:
        self._closed = True
        self.discard()
