"""One HTTP/1.1 connection: httptools parses, we frame answers ourselves.

Bytes in → :class:`HTTPRequest` → handler → bytes out, without an ASGI scope in between: a GET
that the handler can answer at once costs no task. Requests of one connection are answered in
order, one at a time. Any ``Upgrade`` request can be taken over raw (WebSocket, SPDY).

Why not uvicorn's protocol class: it is built around the ASGI cycle (a task, a scope and two
queues a request: 2.5 times the CPU of this), hides client certificates and drops unknown
upgrades, and importing it costs 50 ms. ASGI applications run through ``asgi.py``.
"""

from __future__ import annotations

import asyncio
import http
import logging
import re
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httptools

from pilothouse.componentbase.serving import big_bodies
from pilothouse.componentbase.serving.eager import done, resumed
from pilothouse.componentbase.serving.interfaces import HTTPRequest
from pilothouse.componentbase.serving.peer_verification import peer_certificate
from pilothouse.componentbase.serving.push_sink import PushSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.componentbase.serving.http_server import HTTPServer
    from pilothouse.componentbase.serving.interfaces import HTTPResponse, Streams

log = logging.getLogger(__name__)

MAX_HEAD = 1 << 20
"""Bytes of request line and headers (Go's DefaultMaxHeaderBytes)."""
_LOSSLESS = ("impersonate-", "x-remote-")
_STATUS = {
    s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus if s >= 200
}
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(?= )")
_STAND_IN = b"UNLINK"
"""A method that the parser knows, in place of one that it doesn't."""
_LEFT_OVER = 64 * 1024
"""Bytes kept of what follows the head of an upgrade while that is being decided."""
_SMALL_BODY = 1 << 20
_EAGER = frozenset(("GET", "HEAD"))
_names: dict[bytes, str] = {}


def _header_name(raw: bytes) -> str:
    name = _names.get(raw)
    if name is None:
        name = raw.decode("latin-1").lower()
        if len(_names) < 512:
            _names[raw] = name
    return name


def _refusal(text: str) -> bytes:
    """An answer of net/http's own, after which it closes."""
    body = text.encode()
    return (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (body.partition(b":")[0], len(body), body)
    )


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class HTTPProtocol(asyncio.Protocol):
    """Parser callbacks and writer of one connection."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.handler = server.handler
        self.parser: Any = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.state: dict[str, Any] = {}
        self.peer_der: bytes | None = None
        self.client = ""
        self.tls = False
        self.closed = False
        self.last_active = 0.0
        self.began = 0.0
        """When the request that is coming in began."""
        self.coming = True
        """A request has begun and is not complete; a new connection owes one."""
        self.head_over = False
        self.body_size = 0
        self.write_mark: tuple[int, float] | None = None
        """How far writing had come, and since when (``connection_limits``)."""
        self.streaming = False
        self.old = False
        """The client speaks HTTP/1.0: nothing is sent in chunks."""
        self.busy = False
        """A request is being answered."""
        self.waiting: deque[tuple[HTTPRequest, bool]] = deque()
        """Pipelined requests and whether the connection lives on after them."""
        self.task: asyncio.Task[None] | None = None
        self.stop_push: Callable[[], None] | None = None
        self._paused = False
        self._writable: list[Callable[[], None]] = []
        self._left_over = bytearray()
        self._upgrading = False
        self._odd_method = ""
        self._charged = 0
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._repeated: dict[str, list[str]] | None = None
        self._head_size = 0
        self._body: bytes | bytearray = b""
        self.body_size = 0
        self._limit = 0
        self._refused = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.add(self)
        self.last_active = self.began = self.server.loop_time()
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self.tls = True
            self.peer_der = peer_certificate(ssl_object)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = str(peer[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.server.connections.discard(self)
        self._uncharge()
        if self.stop_push is not None:
            stop, self.stop_push = self.stop_push, None
            stop()
        if self.task is not None and self.busy:
            self.task.cancel()
        self.waiting.clear()
        self.resume_writing()

    def eof_received(self) -> bool | None:
        return None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        callbacks, self._writable = self._writable, []
        for callback in callbacks:
            callback()
        if self.waiting and not self.busy:
            self._next()

    def data_received(self, data: bytes) -> None:
        self.last_active = self.server.loop_time()
        if self._upgrading:
            self._keep(data)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._keep(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            log.exception("a bug in answering %s", self._target[:200])
            self.transport.abort()
        except httptools.HttpParserError as error:
            odd = isinstance(error, httptools.HttpParserInvalidMethodError)
            if self.closed or self._refused or (odd and self._feed_odd(data)):
                return
            self._refuse("400 Bad Request")

    def _keep(self, data: bytes) -> None:
        self._left_over += data
        if len(self._left_over) > _LEFT_OVER:
            self.transport.pause_reading()

    def _feed_odd(self, data: bytes) -> bool:
        """A method that HTTP does not know is for the handler to refuse: parsed under another
        name, once a connection. False: it is no request at all."""
        found = _METHOD.match(data)
        if found is None or self._odd_method or self.busy:
            return False
        self._odd_method = found[0].decode("ascii")
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(_STAND_IN + data[found.end() :])
        return True

    def _refuse(self, text: str) -> None:
        self._refused = True
        self.transport.write(_refusal(text))
        self.transport.close()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._reset()
        self.began, self.coming, self.head_over = self.last_active, True, False

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self.head_over:
            return  # a trailer
        key = _header_name(name)
        text = value.decode("latin-1")
        headers = self._headers
        if key in headers:
            if self._repeated is None:
                self._repeated = {}
            self._repeated.setdefault(key, [headers[key]]).append(text)
        else:
            headers[key] = text

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD and not self._refused:
            self._refuse("431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        headers = self._headers
        self.head_over = True
        if self._refused:
            return
        if self._repeated is not None:
            self._join_repeated(headers, self._repeated)
        if self.parser.get_http_version() == "1.0":
            self.old = True
        elif "host" not in headers:
            self._refuse("400 Bad Request: missing required Host header")
            return
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            return
        self._limit = self.handler.body_limit(self._method(), self._target)
        if length is not None and length.isdigit() and int(length) > self._limit:
            self._refuse_body()
        elif headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _join_repeated(self, headers: dict[str, str], repeated: dict[str, list[str]]) -> None:
        if "host" in repeated:
            self._refuse("400 Bad Request: too many Host headers")
        for key, values in repeated.items():
            headers[key] = ("\n" if key.startswith(_LOSSLESS) else ", ").join(values)

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self.body_size += len(body)
        if self.body_size > self._limit:
            self._refuse_body()
            return
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if self.body_size > _SMALL_BODY:
            if self._limit > big_bodies.USUAL and not self._charged:
                big_bodies.ask(self)
            self._charged += len(body)
            if not self.server.charge(len(body)):
                self._body = b""
                self._refuse("503 Service Unavailable: too many big requests are coming in")

    def _uncharge(self) -> None:
        if self._charged:
            self.server.charge(-self._charged)
            self._charged = 0

    def _refuse_body(self) -> None:
        response = self.handler.too_large(self._method(), self._target)
        self.refuse_with(response)
        big_bodies.tell(self, response)

    def refuse_with(self, response: HTTPResponse) -> None:
        """In place of the request that is coming in."""
        self._refused = True
        self._body = b""
        self.write_response(response, keep_alive=False, head=False)

    def _method(self) -> str:
        return self._odd_method or cast("str", self.parser.get_method().decode("ascii"))

    def on_message_complete(self) -> None:
        self.coming = False
        self._uncharge()
        if self._refused or self.closed:
            return
        parser = self.parser
        upgrade = None
        if parser.should_upgrade():
            self._upgrading = True
            upgrade = self.take_over
        body, self._body = self._body, b""
        request = HTTPRequest(
            self._method(),
            self._target,
            self._headers,
            body if isinstance(body, bytes) else bytes(body),
            peer_der=self.peer_der,
            tls=self.tls,
            client=self.client,
            connection=self.state,
            upgrade=upgrade,
            disconnected=self.is_closed,
        )
        keep_alive = parser.should_keep_alive() and upgrade is None
        if self.server.draining or self._odd_method:
            keep_alive = False
        if self.busy or self._paused or self.waiting:
            self.waiting.append((request, keep_alive))
            self.transport.pause_reading()
        else:
            self._start(request, keep_alive)

    # answering

    def is_closed(self) -> bool:
        return self.closed

    def _start(self, request: HTTPRequest, keep_alive: bool) -> None:
        self.busy = True
        coroutine = self.handler.handle(request)
        if request.upgrade is None and request.method in _EAGER:
            try:
                waits_for = coroutine.send(None)
            except StopIteration as stop:
                response: HTTPResponse = stop.value
                if response.chunks is None and response.push is None:
                    self.busy = False
                    self.write_response(response, keep_alive, request.method == "HEAD")
                    return
                coroutine = done(response)
            except BaseException:
                self.transport.abort()
                raise
            else:
                coroutine = resumed(coroutine, waits_for)
        answer = self._answer(request, coroutine, keep_alive)
        self.task = self.server.tasks.start(answer, request.method)

    async def _answer(
        self, request: HTTPRequest, coroutine: Awaitable[HTTPResponse], keep_alive: bool
    ) -> None:
        try:
            response = await coroutine
            if response.hijacked:
                return
            head = request.method == "HEAD"
            if response.chunks is not None and not head:
                if self.old:
                    keep_alive = False  # where it ends is told by the end of the connection
                await self._stream(response, keep_alive)
            elif response.push is not None and not head:
                self._push(response, keep_alive)
                return
            else:
                self.write_response(response, keep_alive, head)
        except BaseException:
            self.transport.abort()
            raise
        self._finished(keep_alive)

    def _finished(self, keep_alive: bool) -> None:
        self.busy = False
        self.task = None
        if self.closed:
            return
        if not keep_alive or self.server.stopping:
            self.transport.close()
        else:
            self._next()

    def _next(self) -> None:
        """Pipelined requests, while they are answered at once and the answers are taken."""
        waiting = self.waiting
        while waiting and not (self.busy or self._paused or self.closed):
            request, keep_alive = waiting.popleft()
            if not waiting:
                self.transport.resume_reading()
            self._start(request, keep_alive)

    def write_response(self, response: HTTPResponse, keep_alive: bool, head: bool) -> None:
        """Head and body in one write; closes when the connection does not live on."""
        if self.closed:
            return
        body = response.body
        lines = self._head(response, keep_alive)
        if response.status not in (204, 304):
            lines.append(b"Content-Length: %d\r\n\r\n" % len(body))
        else:
            lines.append(b"\r\n")
        if body and not head:
            lines.append(body)
        self.transport.write(b"".join(lines))
        if not keep_alive:
            self.transport.close()

    def _head(self, response: HTTPResponse, keep_alive: bool) -> list[bytes]:
        status = response.status
        lines = [_STATUS.get(status) or f"HTTP/1.1 {status} \r\n".encode(), self.server.date()]
        if response.content_type:
            lines.append(b"Content-Type: %b\r\n" % response.content_type.encode("latin-1"))
        for name, value in response.headers:
            lines.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        if not keep_alive:
            lines.append(b"Connection: close\r\n")
        elif self.old:
            lines.append(b"Connection: keep-alive\r\n")
        return lines

    async def _stream(self, response: HTTPResponse, keep_alive: bool) -> None:
        chunks = response.chunks
        assert chunks is not None
        self._begin_stream(response, keep_alive)
        try:
            async for chunk in chunks:
                if not chunk:
                    continue
                if self.closed:
                    return
                self.transport.write(chunk if self.old else b"%x\r\n%b\r\n" % (len(chunk), chunk))
                if self._paused:
                    await self.drain()
            if not self.old:
                self.transport.write(b"0\r\n\r\n")
        finally:
            self.streaming = False
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _begin_stream(self, response: HTTPResponse, keep_alive: bool) -> None:
        lines = self._head(response, keep_alive)
        lines.append(b"\r\n" if self.old else b"Transfer-Encoding: chunked\r\n\r\n")
        self.streaming = True
        self.transport.write(b"".join(lines))

    async def drain(self) -> None:
        """Until the transport takes more (or the connection is gone)."""
        if self._paused and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._writable.append(partial(_wake, waiter))
            await waiter

    def _push(self, response: HTTPResponse, keep_alive: bool) -> None:
        assert response.push is not None
        keep_alive = keep_alive and not self.old
        self._begin_stream(response, keep_alive)
        self.task = None
        sink = PushSink(self, keep_alive)
        stop = response.push(sink)
        if self.closed:
            stop()
        elif not sink.ended:
            self.stop_push = stop

    async def take_over(self) -> Streams:
        """The raw connection as streams; what came after the request's head is in the reader."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 20, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        writer = asyncio.StreamWriter(self.transport, protocol, reader, loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        self.server.connections.discard(self)
        self.server.taken_over.add(self.transport)
        if self._left_over:
            reader.feed_data(bytes(self._left_over))
            self._left_over.clear()
            self.transport.resume_reading()
        if self.closed or self.transport.is_closing():
            reader.feed_eof()
        return reader, writer
