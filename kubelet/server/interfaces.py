"""What the parts of the kubelet's API share: answers, refusals, byte streams, the kubelet's side.

``handler.py`` routes; ``exec.py``, ``attach.py`` and ``port_forward.py`` hold the logic over the
streams below; ``channels.py`` (WebSocket) and ``spdy.py`` carry them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.metrics import Counter
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.interfaces import RuntimeService
from pilothouse.kubelet.user_namespaces import UserNamespaces

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
INBOX_LIMIT = 1 << 20


@dataclass(slots=True)
class Response:
    """The answer to a request: ``body``, or ``chunks`` when it is streamed."""

    status: int = 200
    body: bytes = b""
    content_type: str = TEXT
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: AsyncGenerator[bytes, None] | None = None


class Refusal(Exception):
    """The request cannot be served: an HTTP status and the text that explains it."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = list(headers)

    def response(self) -> Response:
        return Response(self.status, str(self).encode(), TEXT, self.headers)


class KubeletHost(Protocol):
    """What the server needs of a kubelet (``kubelet.Kubelet`` is one)."""

    config: KubeletConfig
    runtime: RuntimeService
    cache: PodCache
    clock: Clock
    terminations: Counter
    user_namespaces: UserNamespaces

    def find_pod(self, namespace: str, name: str) -> Obj | None: ...

    def pods(self) -> list[Obj]: ...

    def health(self) -> str | None: ...


class Inbound(Protocol):
    """Bytes from the client."""

    async def read(self) -> bytes:
        """The next bytes; empty when there are no more. :raises ConnectionError: cut off."""
        ...

    def discard(self) -> None:
        """Nobody reads any more: what still comes is thrown away and blocks nothing."""
        ...


class Outbound(Protocol):
    """Bytes to the client."""

    async def write(self, data: bytes) -> None:
        """Waits while the client takes less than it is sent. :raises ConnectionError: it left."""
        ...

    async def close(self) -> None:
        """There will be no more. Safe to call again and after the client has left."""
        ...


class Duplex(Inbound, Outbound, Protocol):
    async def reset(self) -> None:
        """Ends both directions at once."""
        ...


class Transport(Protocol):
    """What carries a SPDY session: a socket, or the messages of a WebSocket."""

    async def read(self) -> bytes:
        """Empty when the peer has left."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None:
        """Lets the peer read what was sent, then closes. Bounded in time."""
        ...


class Inbox:
    """Received bytes that wait for their reader; the receiver waits while it is full."""

    def __init__(self, limit: int = INBOX_LIMIT) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._limit = limit
        self._ended = False
        self._broken = False
        self._discarding = False
        self._data = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def ended(self) -> bool:
        return self._ended

    def feed(self, data: bytes) -> None:
        if self._ended or self._discarding or not data:
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= self._limit:
            self._room.clear()
        self._data.set()

    def feed_eof(self) -> None:
        self._ended = True
        self._data.set()

    def cut(self) -> None:
        """The peer broke off: what is there is lost."""
        self._broken = True
        self.discard()
        self.feed_eof()

    async def room(self) -> None:
        """Until there is room for more."""
        await self._room.wait()

    async def read(self) -> bytes:
        while not self._chunks:
            if self._broken:
                raise ConnectionResetError("the client broke off the stream")
            if self._ended or self._discarding:
                return b""
            self._data.clear()
            await self._data.wait()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._size < self._limit:
            self._room.set()
        return chunk

    def discard(self) -> None:
        self._discarding = True
        self._chunks.clear()
        self._size = 0
        self._room.set()
        self._data.set()
