"""TLS connections against a real client: both directions, back-pressure, closing, bad peers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pilothouse.apimachinery.clock import RealClock
from pilothouse.componentbase.certs import make_ca, make_serving_cert, save_pair
from pilothouse.componentbase.serving import tls_transport
from pilothouse.componentbase.serving.tls import server_context
from pilothouse.componentbase.serving.tls_transport import (
    PLAIN_ANSWER,
    TLSListener,
    TLSTransport,
    bind,
)

BIG = bytes(range(256)) * 40_000
"""Ten megabytes: more than the sockets' buffers hold."""


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return (
        uvloop.EventLoopPolicy()
        if request.param == "uvloop"
        else (asyncio.DefaultEventLoopPolicy())
    )


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn: what is waited for comes from a socket."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


class Peer(asyncio.Protocol):
    """The server's side; what happened to it can be waited for."""

    def __init__(self) -> None:
        self.transport: TLSTransport
        self.data = b""
        self.paused: list[bool] = []
        self.lost, self.eof = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)

    def eof_received(self) -> None:
        self.eof.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()


class Served:
    def __init__(self, listener: TLSListener, context: ssl.SSLContext, peers: list[Peer]) -> None:
        self.listener = listener
        self.context = context
        self.peers = peers
        self.address = listener.sockets[0].getsockname()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Peer]:
        known = len(self.peers)
        reader, writer = await asyncio.open_connection(
            *self.address, ssl=self.context, server_hostname="localhost"
        )
        writer.write(b"hello")
        await until(lambda: len(self.peers) > known)
        peer = self.peers[-1]
        await until(lambda: peer.data == b"hello")
        return reader, writer, peer


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    now = RealClock().now()
    ca = make_ca("test", now=now)
    pair = make_serving_cert(ca, "server", names=["localhost"], now=now)
    save_pair(tmp_path, "server", pair)
    (tmp_path / "ca.crt").write_bytes(ca.cert)
    context = server_context(str(tmp_path / "server.crt"), str(tmp_path / "server.key"))
    peers: list[Peer] = []

    def factory() -> Peer:
        peers.append(Peer())
        return peers[-1]

    sockets = await bind("127.0.0.1", 0)
    for each in sockets:
        each.listen(16)
    listener = TLSListener(sockets, context, factory)
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    yield Served(listener, client, peers)
    listener.close()
    for peer in peers:
        peer.transport.abort()
    await asyncio.sleep(0)


async def test_bytes_go_both_ways_and_a_close_arrives_as_the_end(served: Served) -> None:
    reader, writer, peer = await served.connect()
    peer.transport.write(b"one ")
    peer.transport.write(memoryview(b"two"))
    assert await reader.readexactly(7) == b"one two"
    assert peer.data == b"hello"
    assert peer.transport.get_extra_info("peername") == writer.get_extra_info("sockname")
    assert peer.transport.get_extra_info("cipher")[1] == "TLSv1.3"
    assert peer.transport.get_extra_info("nothing", 5) == 5
    peer.transport.close()
    assert peer.transport.is_closing()
    peer.transport.write(b"too late")
    assert await reader.read() == b""
    writer.close()
    await peer.lost.wait()
    assert peer.error is None


def read_all(served: Served) -> bytes:
    """A client without a loop: uvloop's own drops what it has not read when the end arrives."""
    with socket.create_connection(served.address) as plain:
        with served.context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"hello")
            found = []
            while data := client.recv(1 << 20):
                found.append(data)
            return b"".join(found)


async def test_a_big_answer_waits_for_its_reader_and_a_close_comes_after_it(
    served: Served,
) -> None:
    reading = asyncio.get_running_loop().run_in_executor(None, read_all, served)
    await until(lambda: bool(served.peers) and served.peers[0].data == b"hello")
    (peer,) = served.peers
    peer.transport.write(BIG)
    peer.transport.write(b"the end")
    peer.transport.close()
    assert await reading == BIG + b"the end"
    await peer.lost.wait()
    assert peer.error is None


async def test_writing_resumes(served: Served) -> None:
    reader, writer, peer = await served.connect()
    peer.transport.write(BIG)
    peer.transport.write(BIG)
    await reader.readexactly(2 * len(BIG))
    await until(lambda: len(peer.paused) > 1)
    assert peer.paused == [True, False]
    assert peer.transport.get_write_buffer_size() == 0
    writer.close()


async def test_a_big_body_comes_in_whole_though_reading_was_paused(served: Served) -> None:
    _, writer, peer = await served.connect()
    peer.transport.pause_reading()
    peer.transport.pause_reading()
    assert not peer.transport.is_reading()
    writer.write(BIG)
    peer.transport.resume_reading()
    await writer.drain()
    await until(lambda: len(peer.data) >= len(BIG) + 5)
    assert peer.data == b"hello" + BIG
    writer.close()
    await peer.eof.wait()
    await peer.lost.wait()


async def test_an_answer_to_a_body_that_nobody_reads_is_not_lost(served: Served) -> None:
    """The server refuses and closes while the client still sends."""
    reader, writer, peer = await served.connect()
    peer.transport.write(b"413")
    peer.transport.close()
    writer.write(BIG)
    assert await reader.read() == b"413"
    writer.close()
    await peer.lost.wait()


async def test_a_client_that_vanishes_is_noticed_by_the_next_write(served: Served) -> None:
    _, writer, peer = await served.connect()
    peer.transport.pause_reading()
    writer.transport.abort()
    while not peer.transport.is_closing():
        peer.transport.write(b"x" * 1000)
        await asyncio.sleep(0)
    await peer.lost.wait()
    peer.transport.write(b"more")
    peer.transport.close()
    peer.transport.abort()


async def test_a_client_without_tls_is_told(served: Served) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as plain:
        plain.setblocking(False)
        await loop.sock_connect(plain, served.address)
        await loop.sock_sendall(plain, b"GET / HTTP/1.1\r\n\r\n")
        answer = await loop.sock_recv(plain, 4096)
    assert answer == PLAIN_ANSWER
    assert not served.peers and not served.listener.starting


async def test_the_oldest_of_too_many_handshakes_makes_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "MAX_STARTING", 2)
    loop = asyncio.get_running_loop()
    silent = []
    for count in (1, 2, 2):
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, served.address)
        silent.append(client)
        await until(lambda count=count: len(served.listener.starting) == count)  # type: ignore[misc]
    assert await loop.sock_recv(silent[0], 10) == b""
    _, writer, _ = await served.connect()  # the second silent one goes
    assert await loop.sock_recv(silent[1], 10) == b""
    writer.close()
    for client in silent:
        client.close()


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x40\x00" + b"\0" * 50, b"\x80\x2e\x01", b"\0" * 9000]
)
async def test_nonsense_in_place_of_a_handshake(served: Served, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(*served.address)
    writer.write(data)
    try:
        writer.write_eof()
        assert not (await reader.read()).startswith(b"HTTP")
    except OSError:
        pass
    writer.close()
    await until(lambda: not served.listener.starting)
    assert not served.peers


async def test_a_peer_that_reads_nothing_makes_no_progress(served: Served) -> None:
    _, writer, peer = await served.connect()
    writer.transport.pause_reading()
    peer.transport.write(BIG)
    peer.transport.close()
    await asyncio.sleep(0)
    mark = peer.transport.progress
    writer.write(b"x" * 100_000)  # what it sends counts for nothing
    await writer.drain()
    await asyncio.sleep(0)
    assert peer.transport.get_write_buffer_size() > 0
    assert peer.transport.progress - mark <= 16
    peer.transport.abort()
    await peer.lost.wait()
    assert peer.transport.get_write_buffer_size() == 0


async def test_closing_the_listener_cuts_handshakes_and_leaves_connections(
    served: Served,
) -> None:
    reader, writer, peer = await served.connect()
    loop = asyncio.get_running_loop()
    with socket.socket() as silent:
        silent.setblocking(False)
        await loop.sock_connect(silent, served.address)
        await until(lambda: bool(served.listener.starting))
        served.listener.close()
        assert not served.listener.starting and served.listener.sockets == ()
        assert await loop.sock_recv(silent, 10) == b""
    peer.transport.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*served.address)


async def test_streams_take_a_connection_over(served: Served) -> None:
    reader, writer, peer = await served.connect()
    loop = asyncio.get_running_loop()
    ours = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(ours, loop=loop)
    peer.transport.set_protocol(protocol)
    protocol.connection_made(peer.transport)
    stream = asyncio.StreamWriter(peer.transport, protocol, ours, loop)
    stream.write(BIG)
    draining = loop.create_task(stream.drain())  # an owner would outlive nothing here
    assert await reader.readexactly(len(BIG)) == BIG
    await draining
    writer.write(b"line\n")
    assert await ours.readline() == b"line\n"
    writer.close()
    assert await ours.read() == b""
    stream.close()


async def test_a_taken_port_is_an_error_that_names_it(served: Served) -> None:
    with pytest.raises(OSError, match="error while attempting to bind on address") as found:
        await bind(*served.address)
    assert str(served.address[1]) in str(found.value)
