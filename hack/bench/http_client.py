"""A load generator's HTTP/1.1: raw protocols over TLS that do as little as they can.

One :class:`Caller` is one keep-alive connection with one request in flight; it reads status and
length of the answer and throws the body away. One :class:`Watcher` counts the events of a watch.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from hack.bench.requests import NAMESPACE, encode

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_END = b"\r\n0\r\n\r\n"
_NAME = re.compile(rb'"name":"((?:run|before|paced)-\d+)"')
_LAST_CHUNK = b"0\r\n\r\n"
_SENT = b'"bench/sent":"'
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')


class Caller(asyncio.Protocol):
    """Sends what ``requests`` yields, one after the other, until it is exhausted."""

    def __init__(self) -> None:
        self.transport = cast("asyncio.Transport", None)
        self.requests: Iterator[bytes] = iter(())
        self.latencies: list[float] = []
        self.failures: dict[int, int] = {}
        self.first_failure = b""
        self.received = 0
        self.done: asyncio.Future[None] | None = None
        self.keep: bytearray | None = None
        self._began = 0.0
        self._left = -1
        self._tail = b""
        self._head = b""
        self._status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._count_failure(0)
        self._finish()

    def run(self, requests: Iterator[bytes]) -> asyncio.Future[None]:
        self.requests = requests
        self.done = asyncio.get_running_loop().create_future()
        self._next()
        return self.done

    def _finish(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    def _count_failure(self, status: int) -> None:
        self.failures[status] = self.failures.get(status, 0) + 1

    def _next(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self._finish()
            return
        self._left, self._status, self._head = -1, 0, b""
        self._began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._status:
            self._body(data)
            return
        data = self._head + data if self._head else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return
        self._status = int(data[9:12])
        length = _LENGTH.search(data, 0, end)
        self._left = int(length[1]) if length else -1
        self._tail = b""
        if self._status >= 300 and not self.first_failure:
            self.first_failure = data[end + 4 : end + 500]
        self._body(data[end + 4 :])

    def _body(self, data: bytes) -> None:
        if self.keep is not None:
            self.keep += data
        if self._left >= 0:
            self._left -= len(data)
            if self._left > 0:
                return
        else:
            self._tail = (self._tail + data)[-7:] if len(data) < 7 else data[-7:]
            if self._tail != _END:
                return
        self.latencies.append(time.perf_counter() - self._began)
        if self._status >= 300:
            self._count_failure(self._status)
        self._next()


class Watcher(asyncio.Protocol):
    """Counts events; every ``sampled`` one also measures how late they come."""

    def __init__(self, version: str, request: Callable[[str], bytes], sampled: bool) -> None:
        self.version = version
        self.events = 0
        self.lags: list[float] = []
        self.cut = False
        self.open = asyncio.get_running_loop().create_future()
        self._request = request
        self._sampled = sampled
        self._tail = b""
        self._skipping = 0
        self.transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request(self.version))

    def connection_lost(self, exc: Exception | None) -> None:
        self.cut = True
        if not self.open.done():
            self.open.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            self.open.set_result(None)
        data = self._tail + data
        if data.endswith(_LAST_CHUNK):
            self.transport.abort()
        # The marker stands once in each event; a part of it may wait for the next read.
        self.events += data.count(_SENT)
        if self._sampled:
            self._measure(data)
        self._tail = data[-(len(_SENT) - 1) :]

    def _measure(self, data: bytes) -> None:
        at = data.rfind(_SENT)
        end = data.find(b'"', at + len(_SENT))
        if at >= 0 and end > 0:
            stamp = int(data[at + len(_SENT) : end])
            self.lags.append((time.perf_counter_ns() - stamp) / 1e9)


class PodFollower(asyncio.Protocol):
    """Watches pods and notes when each is bound or running for the first time."""

    def __init__(self, until: str, count: int, prefix: str = "run") -> None:
        self.prefix = prefix
        self.times: dict[str, float] = {}
        self.transport = cast("asyncio.Transport", None)
        self._marker = b'"nodeName":"' if until == "bound" else b'"phase":"Running"'
        self._count = count
        self._sent: dict[str, float] = {}
        self._tail = b""
        self._progress = asyncio.Event()
        self._version = ""
        self.cut: asyncio.Event = asyncio.Event()
        """Set when the server has ended the watch: it goes on from the last resourceVersion."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._tail = b""
        query = "watch=true&timeoutSeconds=3000"
        if self._version:
            query += f"&resourceVersion={self._version}"
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?{query}"
        self.transport.write(encode("GET", path))

    def connection_lost(self, exc: Exception | None) -> None:
        self.cut.set()

    def sent(self, name: str) -> None:
        self._sent[name] = time.perf_counter()

    def noting(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        for n, request in enumerate(stream):
            self.sent(f"{self.prefix}-{n}")
            yield request

    def data_received(self, data: bytes) -> None:
        if data.endswith(_LAST_CHUNK):
            # A server that finds its watcher too slow ends the answer and keeps the connection.
            self.transport.abort()
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            # Chunk framing may cut a line, but hardly ever a marker.
            if self._marker in line:
                match = _NAME.search(line)
                name = match[1].decode() if match else ""
                if name in self._sent and name not in self.times:
                    self.times[name] = time.perf_counter() - self._sent[name]
                    self._progress.set()
            if line.startswith(b'{"type"'):
                version = _VERSION.search(line)
                self._version = version[1].decode() if version else self._version

    async def reached(self, count: int, deadline: float) -> None:
        """Until ``count`` pods are there, or the deadline."""
        while len(self.times) < count:
            left = deadline - time.perf_counter()
            if left <= 0:
                return
            self._progress.clear()
            try:
                await asyncio.wait_for(self._progress.wait(), left)
            except TimeoutError:
                return


def newest_version(body: bytes) -> str:
    match = _VERSION.search(body)
    return match[1].decode() if match else "0"


def summary(callers: list[Caller]) -> dict[str, Any]:
    failures: dict[int, int] = {}
    for caller in callers:
        for status, count in caller.failures.items():
            failures[status] = failures.get(status, 0) + count
    first = next((c.first_failure for c in callers if c.first_failure), b"")
    return {
        "failures": failures,
        "first_failure": first.decode("utf-8", "replace"),
        "bytes": sum(c.received for c in callers),
    }
