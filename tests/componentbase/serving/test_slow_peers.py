"""What a connection may cost: slow and silent peers, floods, odd HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pilothouse.componentbase.serving import http_server
from pilothouse.componentbase.serving.connection_limits import idle, too_slow
from pilothouse.componentbase.serving.http_server import HTTPServer
from pilothouse.componentbase.serving.interfaces import HTTPRequest, PlainResponse, Sink

BIG = b"x" * (20 << 20)


class Handler:
    def __init__(self) -> None:
        self.seen: list[HTTPRequest] = []
        self.release = asyncio.Event()
        self.limit = 8 << 20

    async def handle(self, request: HTTPRequest) -> PlainResponse:
        self.seen.append(request)
        path = request.target.decode()
        if path == "/big":
            return PlainResponse(body=BIG)
        if path == "/slow":
            await self.release.wait()
        if path == "/chunks":
            return PlainResponse(chunks=self._chunks())
        if path == "/push":
            return PlainResponse(push=self._push)
        if request.upgrade is not None:
            await self.release.wait()
            reader, writer = await request.upgrade()
            size = len(await reader.readexactly(1 << 20))
            writer.write(b"%d" % size)
            writer.close()
            return PlainResponse(hijacked=True)
        return PlainResponse(body=f"{request.method} {len(request.body)}".encode())

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    def _push(self, sink: Sink) -> object:
        sink.write(b"one")
        sink.write(b"two")
        sink.end()
        return lambda: None

    def body_limit(self, method: str, target: bytes) -> int:
        return self.limit

    def too_large(self, method: str, target: bytes) -> PlainResponse:
        return PlainResponse(413, b"too large")


@pytest.fixture
async def handler() -> Handler:
    return Handler()


@pytest.fixture
async def server(handler: Handler) -> AsyncIterator[HTTPServer]:
    running = HTTPServer(handler)  # type: ignore[arg-type]
    await running.listen("127.0.0.1", 0)
    yield running
    await running.stop(grace=0)


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode("latin-1"))

    async def ask(self, text: str) -> bytes:
        self.send(text)
        return await self.reader.read()

    async def answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        return await self.reader.readexactly(length)


@pytest.fixture
async def wire(server: HTTPServer) -> AsyncIterator[Wire]:
    made = Wire(*await asyncio.open_connection(*server.addresses[0]))
    yield made
    made.writer.close()


async def arrived(handler: Handler, count: int) -> None:
    while len(handler.seen) < count:  # noqa: ASYNC110 - comes from a socket
        await asyncio.sleep(0)


async def connected(server: HTTPServer) -> http_server.HTTPProtocol:
    while not server.connections:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return next(iter(server.connections))


@dataclass
class Connection:
    busy: bool = False
    coming: bool = False
    head_over: bool = False
    streaming: bool = False
    began: float = 0.0
    last_active: float = 0.0
    body_size: int = 0
    write_mark: tuple[int, float] | None = None


def test_a_head_has_32_seconds_and_a_body_60_or_a_rate() -> None:
    head = Connection(coming=True, last_active=1000)
    assert not too_slow(head, 32, 0, 0) and too_slow(head, 32.5, 0, 0)
    assert not idle(head, 1e6, 130)
    body = Connection(coming=True, head_over=True)
    assert not too_slow(body, 60, 0, 0) and too_slow(body, 60.5, 0, 0)
    body.body_size = 64 << 20
    assert not too_slow(body, 1000, 0, 0) and too_slow(body, 1085, 0, 0)
    body.busy = True  # an earlier one is being answered
    assert not too_slow(body, 2000, 0, 0)


def test_an_answer_has_to_be_taken_but_not_at_once() -> None:
    reader = Connection(busy=True)
    assert not too_slow(reader, 0, 100, 1)
    assert not too_slow(reader, 59, 100, 1)
    assert not too_slow(reader, 61, 100, 2), "it took some"
    assert not too_slow(reader, 121, 100, 2)
    assert too_slow(reader, 122, 100, 2)
    reader.streaming = True
    assert not too_slow(reader, 600, 100, 2)
    assert too_slow(reader, 662, 100, 2)
    assert not too_slow(reader, 700, 0, 2) and reader.write_mark is None


def test_idle_connections_are_closed() -> None:
    assert idle(Connection(), 131, 130) and not idle(Connection(), 130, 130)
    assert not idle(Connection(busy=True), 131, 130)


async def test_a_byte_a_second_is_cut(server: HTTPServer, wire: Wire) -> None:
    wire.send("GET / HT")
    connection = await connected(server)
    connection.began -= 33
    wire.send("T")
    server._sweep()
    with pytest.raises(ConnectionError):
        while await wire.reader.read(10):
            pass
        raise ConnectionResetError


async def test_an_answer_nobody_reads_is_thrown_away(server: HTTPServer, wire: Wire) -> None:
    wire.writer.transport.pause_reading()
    wire.send("GET /big HTTP/1.1\nHost: x\n\n")
    connection = await connected(server)
    while not connection.transport.get_write_buffer_size():  # noqa: ASYNC110
        await asyncio.sleep(0)
    server._sweep()
    assert connection.write_mark is not None
    while True:  # the sockets' buffers fill up
        connection.write_mark = (connection.write_mark[0], connection.write_mark[1] - 61)
        server._sweep()
        await asyncio.sleep(0)
        if connection.closed:
            break
    assert connection.transport.get_write_buffer_size() == 0
    assert not server.connections


async def test_pipelined_requests_wait_until_answers_are_taken(
    server: HTTPServer, wire: Wire, handler: Handler
) -> None:
    """Else one packet of requests makes gigabytes of answers."""
    wire.writer.transport.pause_reading()
    wire.send("GET /big HTTP/1.1\nHost: x\n\n" * 50)
    await arrived(handler, 1)
    connection = await connected(server)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(handler.seen) == 1
    assert len(connection.waiting) == 49
    assert connection.transport.get_write_buffer_size() <= len(BIG) + 1000
    wire.writer.transport.resume_reading()
    for _ in range(3):
        assert len(await wire.answer()) == len(BIG)
    assert len(handler.seen) <= 5


async def test_many_pipelined_requests_after_a_slow_one(wire: Wire, handler: Handler) -> None:
    wire.send("GET /slow HTTP/1.1\nHost: x\n\n" + "GET / HTTP/1.1\nHost: x\n\n" * 5)
    await arrived(handler, 1)
    handler.release.set()
    for _ in range(6):
        assert await wire.answer() == b"GET 0"
    wire.send("POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\n.")
    assert await wire.answer() == b"POST 1"


async def test_what_follows_an_upgrade_is_not_hoarded(
    server: HTTPServer, wire: Wire, handler: Handler
) -> None:
    wire.send("GET / HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: any\n\n")
    await arrived(handler, 1)
    connection = await connected(server)
    wire.writer.write(b"y" * (1 << 20))
    while len(connection._left_over) <= 64 * 1024:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(connection._left_over) < 600_000
    handler.release.set()
    assert await wire.reader.read() == b"%d" % (1 << 20)


async def test_a_header_repeated_a_hundred_thousand_times(wire: Wire, handler: Handler) -> None:
    start = time.perf_counter()
    wire.send("GET / HTTP/1.1\nHost: x\nConnection: close\n" + "a:b\n" * 150_000 + "\n")
    assert (await wire.reader.read()).startswith(b"HTTP/1.1 200")
    assert time.perf_counter() - start < 5, "joining them must not take quadratic time"
    assert handler.seen[0].headers["a"].startswith("b, b, b")


async def test_tiny_chunks_and_trailers(wire: Wire, handler: Handler) -> None:
    body = "1\na\n" * 1000
    await wire.ask(
        "POST / HTTP/1.1\nHost: x\nConnection: close\nTransfer-Encoding: chunked\n\n"
        f"{body}0\nX-Remote-User: admin\nHost: y\n\n"
    )
    assert handler.seen[0].body == b"a" * 1000
    assert "x-remote-user" not in handler.seen[0].headers, "trailers are no headers"
    assert handler.seen[0].headers["host"] == "x"


async def test_big_bodies_share_a_bound(
    server: HTTPServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_BUFFERED", 4 << 20)
    head = f"POST / HTTP/1.1\nHost: x\nContent-Length: {4 << 20}\n\n"
    wire.send(head)
    wire.writer.write(b"x" * (4 << 20))
    assert await wire.answer() == b"POST %d" % (4 << 20)
    assert server.buffered == 0
    wire.send(head)
    wire.writer.write(b"x" * (3 << 20))
    while server.buffered < 1 << 20:  # noqa: ASYNC110
        await asyncio.sleep(0)
    other = Wire(*await asyncio.open_connection(*server.addresses[0]))
    other.send(head)
    other.writer.write(b"x" * (4 << 20))
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        answer = await other.reader.readexactly(30)
        assert answer.startswith(b"HTTP/1.1 503")
        raise ConnectionResetError
    other.writer.close()
    wire.writer.close()
    while server.connections:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert server.buffered == 0


async def test_a_crowd_makes_the_quietest_leave(server: HTTPServer) -> None:
    server.max_connections = 5
    wires = [Wire(*await asyncio.open_connection(*server.addresses[0])) for _ in range(8)]
    wires[-1].send("GET / HTTP/1.1\nHost: x\n\n")
    assert await wires[-1].answer() == b"GET 0"
    assert len(server.connections) == 5
    try:
        assert await wires[0].reader.read() == b""
    except ConnectionError:
        pass
    for each in wires:
        each.writer.close()


@pytest.mark.parametrize("path", ["/chunks", "/push"])
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_http_1_0_knows_no_chunks(wire: Wire, path: str, connection: str) -> None:
    head, _, body = (
        await wire.ask(f"GET {path} HTTP/1.0\nConnection: {connection}\n\n")
    ).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == b"onetwo"


async def test_http_1_0_may_keep_its_connection(wire: Wire) -> None:
    for _ in range(2):
        wire.send("GET / HTTP/1.0\nConnection: keep-alive\n\n")
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert b"Connection: keep-alive\r\n" in head
        assert await wire.reader.readexactly(5) == b"GET 0"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("GET / HTTP/1.1\n\n", b"400 Bad Request: missing required Host header"),
        ("GET / HTTP/1.1\nHost: a\nHost: b\n\n", b"400 Bad Request: too many Host headers"),
        ("GET / HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2\n\nab", b"400 Bad Request"),
        (
            "POST / HTTP/1.1\nHost: x\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
            b"400 Bad Request",
        ),
        ("POST / HTTP/1.1\nHost: x\nContent-Length: -1\n\n", b"400 Bad Request"),
        ("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nzz\n", b"400 Bad Request"),
        ("GET / HTTP/1.1\nHost: x\nA\0b: c\n\n", b"400 Bad Request"),
        ("GET / HTTP/1.1\nHost: x\nA: b\0c\n\n", b"400 Bad Request"),
        ("GET / HTTP/1.1\nHost: x\nA : b\n\n", b"400 Bad Request"),
    ],
)
async def test_bad_requests(wire: Wire, handler: Handler, text: str, answer: bytes) -> None:
    head, _, body = (await wire.ask(text)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert body == answer
    assert not handler.seen


async def test_methods_that_nobody_knows_reach_the_handler(wire: Wire, handler: Handler) -> None:
    answer = await wire.ask("FOO / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi")
    assert answer.endswith(b"\r\n\r\nFOO 2")
    assert b"Connection: close" in answer
