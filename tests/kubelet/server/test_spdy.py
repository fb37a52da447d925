from __future__ import annotations

import asyncio

from pilothouse.kubelet.server.interfaces import INBOX_LIMIT
from pilothouse.kubelet.server.spdy import SpdySession, SpdyStream
from pilothouse.kubelet.server.spdy_frames import (
    Data,
    GoAway,
    Ping,
    RstStream,
    SynReply,
    SynStream,
    WindowUpdate,
)
from pilothouse.kubelet.server.websocket import SocketTransport

from .conftest import Pair, SpdyClient


class Server:
    """A session with everything it was opened with."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.opened: asyncio.Queue[SpdyStream] = asyncio.Queue()
        self.refuse = False
        self.session = SpdySession(SocketTransport(*streams, linger=0.2), self._on_stream)
        self.task = asyncio.create_task(self.session.run())

    def _on_stream(self, stream: SpdyStream) -> bool:
        if self.refuse:
            return False
        self.opened.put_nowait(stream)
        return True


async def connect(pair: Pair) -> tuple[Server, SpdyClient]:
    ours, theirs = await pair()
    return Server(ours), SpdyClient(theirs)


async def test_a_stream_from_opening_to_end(pair: Pair) -> None:
    server, client = await connect(pair)
    number = client.open(streamType="stdin", port="80")
    stream = await server.opened.get()
    assert (stream.header("streamType"), stream.header("PORT"), stream.header("no")) == (
        "stdin", "80", "",
    )  # fmt: skip
    client.send(Data(number, b"hello"))
    assert await stream.read() == b"hello"
    await stream.write(b"x" * 100_000)
    client.send(Data(number, b"", fin=True))
    assert await stream.read() == b""
    await stream.close()
    await client.until(lambda: client.finished(number))
    assert client.frames[0] == SynReply(number)
    assert client.data(number) == b"x" * 100_000
    assert server.session.streams == {}
    client.writer.close()
    await server.task


async def test_pings_are_answered_and_window_updates_ignored(pair: Pair) -> None:
    server, client = await connect(pair)
    client.send(WindowUpdate(1, 1000))
    client.send(Ping(2))  # an answer to a ping of ours, which there never was
    client.send(Ping(7))
    await client.until(lambda: bool(client.frames))
    assert client.frames == [Ping(7)]
    client.writer.close()
    await server.task


async def test_refused_streams(pair: Pair) -> None:
    server, client = await connect(pair)
    server.refuse = True
    number = client.open()
    client.send(SynStream(2))
    client.send(SynStream(number))
    await client.until(lambda: len(client.frames) == 3)
    assert client.frames == [RstStream(number, 5), RstStream(2, 1), RstStream(number, 1)]
    client.writer.close()
    await server.task


async def test_reset_cuts_a_reader_off(pair: Pair) -> None:
    server, client = await connect(pair)
    number = client.open()
    stream = await server.opened.get()
    client.send(RstStream(number, 5))
    client.send(Ping(1))
    await client.until(lambda: Ping(1) in client.frames)
    for attempt in (stream.read(), stream.write(b"x")):
        try:
            await attempt
        except ConnectionResetError:
            continue
        raise AssertionError("not cut off")
    client.writer.close()
    await server.task


async def test_going_away_ends_all_streams(pair: Pair) -> None:
    server, client = await connect(pair)
    client.open()
    stream = await server.opened.get()
    client.send(GoAway(0))
    assert await stream.read() == b""
    await server.task
    closing = asyncio.create_task(server.session.close())
    await client.until(lambda: any(isinstance(f, GoAway) for f in client.frames))
    client.writer.close()
    await closing


async def test_a_broken_peer_is_told_so(pair: Pair) -> None:
    server, client = await connect(pair)
    client.writer.write(b"\x80\x02\x00\x01\x00\x00\x00\x00")
    await client.until(lambda: bool(client.frames))
    assert client.frames == [GoAway(0, 1)]
    await server.task


async def test_a_stream_that_nobody_reads_stops_the_sender(pair: Pair) -> None:
    server, client = await connect(pair)
    number = client.open()
    stream = await server.opened.get()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while sent < 64 * INBOX_LIMIT:
            client.send(Data(number, b"x" * 65536))
            await client.writer.drain()
            sent += 65536

    flooding = asyncio.create_task(flood())
    last = -1
    while sent != last:  # until it stands still
        last = sent
        for _ in range(200):
            await asyncio.sleep(0)
    assert not flooding.done()
    assert sent < 16 * INBOX_LIMIT
    received = 0
    while received < 20 * INBOX_LIMIT:
        received += len(await stream.read())
    stream.discard()
    await flooding
    client.writer.close()
    await server.task


async def test_closing_does_not_wait_for_a_silent_client(pair: Pair) -> None:
    server, client = await connect(pair)
    client.open()
    await server.opened.get()
    server.task.cancel()
    await asyncio.wait({server.task})
    async with asyncio.timeout(5):
        await server.session.close()
