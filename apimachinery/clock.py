"""Time as a thing that is passed in, so that a virtual clock can drive a whole cluster.

Code asks a :class:`Clock` for wall time (``now``), for monotonic seconds and for sleeping;
:class:`RealClock` is the only place that reads the machine's clocks.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Wall time and waiting. All durations are seconds."""

    def now(self) -> datetime:
        """Wall time, timezone-aware UTC."""
        ...

    def time(self) -> float:
        """Wall time as seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, callback: object, *args: object) -> TimerHandle:
        """Calls ``callback(*args)`` on the running loop after ``seconds``."""
        ...


class RealClock:
    """The machine's clocks and the running event loop's timers."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: object, *args: object) -> TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)  # type: ignore[arg-type]


def upkeep(clock: Clock) -> Clock:
    """The same time, for timers that only keep things alive: heartbeats, bookmarks, resyncs.

    A virtual clock may jump over such timers (each fires once, late, when the clock stands next);
    every other clock treats them like any timer.
    """
    view: Clock = getattr(clock, "upkeep", clock)
    return view


Future = asyncio.Future


def new_future() -> Future[None]:
    """A future of the running loop, for clocks that are advanced by hand (``testing.py``)."""
    return asyncio.get_running_loop().create_future()
