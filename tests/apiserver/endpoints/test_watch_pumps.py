"""Streams that wake in one turn of the loop are served together, each on its own account."""

from __future__ import annotations

import asyncio

from pilothouse.apiserver.endpoints.watch import Pumps
from pilothouse.componentbase.serving.interfaces import frame, unframe


class Stream:
    def __init__(self, *, broken: bool = False) -> None:
        self.pumped = 0
        self.ended = False
        self.broken = broken

    def pump(self) -> None:
        self.pumped += 1
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
