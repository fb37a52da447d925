"""Streams that wake in one turn of the loop are served together, each on its own account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.endpoints.watch import MAX_WRITE, Pumps, WatchStream
from pilothouse.componentbase.serving.interfaces import frame, unframe


class Stream:
    def __init__(self, *, broken: bool = False, cost: Callable[[], None] = lambda: None) -> None:
        self.pumped = 0
        self.ended = False
        self.broken = broken
        self.cost = cost

    def pump(self) -> None:
        self.pumped += 1
        self.cost()
        if self.broken:
            raise RuntimeError("broken")

    def end(self) -> None:
        self.ended = True


async def test_all_are_pumped_once_and_later_ones_in_the_next_turn() -> None:
    pumps = Pumps()
    first, second = Stream(), Stream()
    pumps.add(first)  # type: ignore[arg-type]
    pumps.add(second)  # type: ignore[arg-type]
    assert (first.pumped, second.pumped) == (0, 0)
    await asyncio.sleep(0)
    assert (first.pumped, second.pumped) == (1, 1)
    pumps.add(first)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert (first.pumped, second.pumped) == (2, 1)


async def test_a_fan_out_that_took_long_is_followed_by_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("pilothouse.apiserver.endpoints.watch.time.perf_counter", lambda: now[0])
    pumps = Pumps()
    crowd = Stream(cost=lambda: now.__setitem__(0, now[0] + 0.002))
    written = asyncio.Event()
    late = Stream(cost=written.set)
    pumps.add(crowd)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert crowd.pumped == 1, "the first goes out at once"
    pumps.add(late)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert late.pumped == 0
    pumps.add(late)  # type: ignore[arg-type]
    await written.wait()
    assert now == [100.002], "real time has passed, the cost was the crowd's"
    now[0] += 1
    pumps.add(crowd)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert crowd.pumped == 2, "a pause is over when nothing happened in it"


async def test_a_broken_stream_ends_alone() -> None:
    pumps = Pumps()
    broken, sound = Stream(broken=True), Stream()
    pumps.add(broken)  # type: ignore[arg-type]
    pumps.add(sound)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert broken.ended and not sound.ended
    assert sound.pumped == 1


def test_frames() -> None:
    assert frame(b"abc") == b"3\r\nabc\r\n"
    assert unframe(frame(b"a\r\n") + frame(b"b" * 300)) == b"a\r\n" + b"b" * 300
    assert unframe(b"") == b""


class Sink:
    """Takes one write, then waits until it is told that the peer has read."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.writable = True
        self.waiting: list[Callable[[], None]] = []

    def write_framed(self, framed: bytes) -> None:
        self.written.append(framed)
        self.writable = False

    def on_writable(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def read(self) -> None:
        self.writable = True
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    def end(self) -> None:
        raise AssertionError


class Watcher:
    """All the content of a kind, at once."""

    def __init__(self, events: list[int]) -> None:
        self.events = events
        self.closed = False
        self.error = None
        self.woken_by: object = None

    @property
    def pending(self) -> bool:
        return bool(self.events)

    def take(self) -> list[int]:
        taken, self.events = self.events, []
        return taken

    def wake(self, callback: object) -> None:
        self.woken_by = callback


class Encoder:
    def framed(self, event: int) -> bytes:
        return b"%06d" % event * 10_000

    error = framed
    piece = framed
    join = staticmethod(b"".join)


async def test_a_client_that_does_not_read_holds_one_write() -> None:
    watcher, sink = Watcher(list(range(100))), Sink()
    stream: Any = WatchStream(watcher, Encoder(), FakeClock(), 60, Pumps())  # type: ignore[arg-type]
    stream.start(sink)
    stream.pump()
    assert len(sink.written) == 1 and len(sink.written[0]) < 2 * MAX_WRITE
    for _ in range(100):
        sink.read()
    everything = b"".join(sink.written)
    assert everything == b"".join(Encoder().framed(number) for number in range(100))
    assert stream.sent == [100]
    assert watcher.woken_by is not None, "it waits for events again"
