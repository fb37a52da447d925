"""The HTTP edge over real sockets: framing, keep-alive, limits, streams, take-over, shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pilothouse.componentbase.serving.http_server import HTTPServer
from pilothouse.componentbase.serving.interfaces import HTTPRequest, PlainResponse, Sink


class Handler:
    """Answers by path; remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[HTTPRequest] = []
        self.release = asyncio.Event()
        self.stopped = asyncio.Event()
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.sink: Sink | None = None

    async def handle(self, request: HTTPRequest) -> PlainResponse:
        self.seen.append(request)
        self.arrived.put_nowait(request.method)
        path = request.target.partition(b"?")[0]
        action = getattr(self, f"on_{path.strip(b'/').decode() or 'root'}")
        response: PlainResponse = await action(request)
        return response

    async def on_root(self, request: HTTPRequest) -> PlainResponse:
        return PlainResponse(body=request.method.encode() + b":" + request.body)

    async def on_slow(self, request: HTTPRequest) -> PlainResponse:
        await self.release.wait()
        return PlainResponse(body=b"slow")

    async def on_chunks(self, request: HTTPRequest) -> PlainResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            yield b""
            yield b"two"

        return PlainResponse(chunks=chunks())

    async def on_push(self, request: HTTPRequest) -> PlainResponse:
        def start(sink: Sink) -> Callable[[], None]:
            self.sink = sink

            def stop() -> None:
                self.stopped.set()
                sink.end()

            return stop

        return PlainResponse(push=start)

    async def on_upgrade(self, request: HTTPRequest) -> PlainResponse:
        assert request.upgrade is not None
        reader, writer = await request.upgrade()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()
        return PlainResponse(hijacked=True)

    async def on_crash(self, request: HTTPRequest) -> PlainResponse:
        raise RuntimeError("a bug")

    def body_limit(self, method: str, target: bytes) -> int:
        return 1000

    def too_large(self, method: str, target: bytes) -> PlainResponse:
        return PlainResponse(413, b"too large")


@pytest.fixture
async def handler() -> Handler:
    return Handler()


@pytest.fixture
async def server(handler: Handler) -> AsyncIterator[HTTPServer]:
    running = HTTPServer(handler)
    await running.listen("127.0.0.1", 0)
    yield running
    await running.stop(grace=0)


class Wire:
    """One client connection, by hand."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.reader, self.writer = streams

    def send(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode("latin-1"))

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:]:
            name, found, value = line.partition(": ")
            if found:
                headers[name.lower()] = value
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await self.reader.readline()).strip(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readline()
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body


@pytest.fixture
async def wire(server: HTTPServer) -> AsyncIterator[Wire]:
    host, port = server.addresses[0]
    connected = Wire(await asyncio.open_connection(host, port))
    yield connected
    connected.writer.close()


async def test_requests_share_a_connection(wire: Wire, handler: Handler) -> None:
    wire.send(
        "GET / HTTP/1.1\nHost: x\nX-Two: a\nx-two: b\nImpersonate-Group: c\n"
        "Impersonate-Group: d\n\n"
    )
    status, headers, body = await wire.response()
    assert (status, body) == (200, b"GET:")
    assert headers["date"].endswith("GMT")
    wire.send("POST / HTTP/1.1\nHost: x\nContent-Length: 4\n\nbody")
    assert (await wire.response())[2] == b"POST:body"
    assert handler.seen[0].headers["x-two"] == "a, b"
    assert handler.seen[0].headers["impersonate-group"] == "c\nd"
    assert handler.seen[0].connection is handler.seen[1].connection


async def test_chunked_request_bodies(wire: Wire) -> None:
    wire.send("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n3\nabc\n2\nde\n0\n\n")
    assert (await wire.response())[2] == b"POST:abcde"


async def test_head_has_no_body(wire: Wire) -> None:
    wire.send("HEAD / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\nHost: x\n\n")
    head = await wire.reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert (await wire.response())[2] == b"GET:"


async def test_pipelined_requests_are_answered_in_order(wire: Wire, handler: Handler) -> None:
    wire.send("GET /slow HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\nHost: x\n\n")
    await handler.arrived.get()
    handler.release.set()
    assert (await wire.response())[2] == b"slow"
    assert (await wire.response())[2] == b"GET:"


async def test_connection_close_and_http_1_0(server: HTTPServer) -> None:
    for request in ("GET / HTTP/1.1\nHost: x\nConnection: close\n\n", "GET / HTTP/1.0\n\n"):
        wire = Wire(await asyncio.open_connection(*server.addresses[0]))
        wire.send(request)
        assert (await wire.response())[2] == b"GET:"
        assert await wire.reader.read() == b""
        wire.writer.close()


async def test_streamed_answers(wire: Wire) -> None:
    wire.send("GET /chunks HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\nHost: x\n\n")
    status, headers, body = await wire.response()
    assert (status, body) == (200, b"onetwo")
    assert "content-length" not in headers
    assert (await wire.response())[2] == b"GET:"


async def test_pushed_answers(wire: Wire, handler: Handler) -> None:
    wire.send("GET /push HTTP/1.1\nHost: x\n\n")
    await wire.reader.readuntil(b"\r\n\r\n")
    assert handler.sink is not None
    handler.sink.write(b"event\n")
    assert await wire.reader.readexactly(11) == b"6\r\nevent\n\r\n"
    handler.sink.end()
    assert await wire.reader.readexactly(5) == b"0\r\n\r\n"
    # The connection lives on.
    wire.send("GET / HTTP/1.1\nHost: x\n\n")
    assert (await wire.response())[2] == b"GET:"


async def test_a_client_that_goes_away_stops_its_push(wire: Wire, handler: Handler) -> None:
    wire.send("GET /push HTTP/1.1\nHost: x\n\n")
    await wire.reader.readuntil(b"\r\n\r\n")
    wire.writer.close()
    async with asyncio.timeout(5):
        await handler.stopped.wait()


async def test_a_slow_reader_is_not_written_to_without_bound(wire: Wire, handler: Handler) -> None:
    wire.send("GET /push HTTP/1.1\nHost: x\n\n")
    await wire.reader.readuntil(b"\r\n\r\n")
    sink = handler.sink
    assert sink is not None
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    written = 0
    while sink.writable:
        sink.write(b"x" * 65536)
        written += 65536
        assert written < 64 << 20
        await asyncio.sleep(0)
    again = asyncio.Event()
    sink.on_writable(again.set)
    assert not again.is_set()
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    drain = asyncio.get_running_loop().create_task(wire.reader.readexactly(written))
    async with asyncio.timeout(10):
        await again.wait()
        await drain


async def test_upgrades_are_taken_over_raw(wire: Wire) -> None:
    wire.send(
        "POST /upgrade HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: SPDY/3.1\n"
        "Content-Length: 0\n\nearly"
    )
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await wire.reader.readexactly(5) == b"EARLY"
    wire.writer.write(b"later")
    assert await wire.reader.readexactly(5) == b"LATER"
    wire.writer.write_eof()
    assert await wire.reader.read() == b""


async def test_an_upgrade_that_is_refused(wire: Wire) -> None:
    wire.send("GET / HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\n\n")
    status, headers, body = await wire.response()
    assert (status, headers["connection"], body) == (200, "close", b"GET:")
    assert await wire.reader.read() == b""


@pytest.mark.parametrize(
    "body", ["Content-Length: 1001\n\n", "Transfer-Encoding: chunked\n\n3e9\n" + "x" * 1001]
)
async def test_bodies_over_the_limit(wire: Wire, body: str) -> None:
    wire.send("POST / HTTP/1.1\nHost: x\n" + body)
    status, headers, text = await wire.response()
    assert (status, headers["connection"], text) == (413, "close", b"too large")


async def test_expect_100_continue(wire: Wire) -> None:
    wire.send("POST / HTTP/1.1\nHost: x\nContent-Length: 2\nExpect: 100-continue\n\n")
    assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send("hi")
    assert (await wire.response())[2] == b"POST:hi"


@pytest.mark.parametrize("text", ["nonsense\n\n", "GET / HTTP/9.9\n\n", "\x16\x03\x01\x02"])
async def test_what_is_no_http(wire: Wire, text: str) -> None:
    wire.send(text)
    status, _, _ = await wire.response()
    assert status == 400
    assert await wire.reader.read() == b""


async def test_endless_headers(wire: Wire) -> None:
    wire.send("GET / HTTP/1.1\nHost: x\n" + f"X: {'a' * 4000}\n" * 300)
    answer = await wire.reader.read()
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.filterwarnings("ignore")
async def test_a_crash_ends_the_connection_only(server: HTTPServer, wire: Wire) -> None:
    wire.send("POST /crash HTTP/1.1\nHost: x\nContent-Length: 0\n\n")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await wire.response()
    other = Wire(await asyncio.open_connection(*server.addresses[0]))
    other.send("GET / HTTP/1.1\nHost: x\n\n")
    assert (await other.response())[2] == b"GET:"
    other.writer.close()


async def test_stop_ends_streams_and_finishes_requests(
    server: HTTPServer, wire: Wire, handler: Handler
) -> None:
    streaming = Wire(await asyncio.open_connection(*server.addresses[0]))
    streaming.send("GET /push HTTP/1.1\nHost: x\n\n")
    await streaming.reader.readuntil(b"\r\n\r\n")
    wire.send("GET /slow HTTP/1.1\nHost: x\n\n")
    await handler.arrived.get()
    await handler.arrived.get()
    stopping: asyncio.Task[Any] = asyncio.get_running_loop().create_task(server.stop(grace=5))
    assert await streaming.reader.read() == b"0\r\n\r\n"
    handler.release.set()
    assert (await wire.response())[2] == b"slow"
    await stopping
    assert await wire.reader.read() == b""
    assert not server.connections
    streaming.writer.close()


async def test_several_listeners(server: HTTPServer) -> None:
    second = await server.listen("127.0.0.1", 0)
    assert {port for _, port in server.addresses} >= {second}
    wire = Wire(await asyncio.open_connection("127.0.0.1", second))
    wire.send("GET / HTTP/1.1\nHost: x\n\n")
    assert (await wire.response())[0] == 200
    wire.writer.close()
