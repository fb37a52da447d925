"""A clock that stands still until it is moved: tests and labs live through months in seconds.

Timers fire in the order of their deadlines, each at its own moment. There are two kinds: ordinary
ones, and upkeep (``clock.upkeep(...)``: heartbeats, bookmarks, resyncs), which a jump may
pass over: then each overdue one fires once, in the order of their deadlines, as soon as the clock
stands. Who moves the clock lets the woken work finish between two moments:
``cluster/virtual_time.py``.
"""

from __future__ import annotations

import heapq
import itertools
import types
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any

from pilothouse.apimachinery.clock import Future, new_future

_Heap = list[tuple[float, int, "VirtualTimer"]]


class VirtualTimer:
    """What ``call_later`` gives; cancelling twice or after it fired does nothing."""

    __slots__ = ("args", "callback", "cancelled", "deadline")

    def __init__(
        self, deadline: float, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self.deadline = deadline
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@types.coroutine
def next_tick() -> Generator[None, None, None]:
    """Lets the event loop run once."""
    yield


class VirtualClock:
    """Keeps the Clock protocol. Not thread-safe: move it on the loop of what it drives."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._elapsed = 0.0
        self._timers: _Heap = []
        self._upkeep: _Heap = []
        self._order = itertools.count()
        self._watchers: list[tuple[int, Future[None]]] = []
        self.upkeep = _Upkeep(self)

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def time(self) -> float:
        return self._start.timestamp() + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        await self._sleep(self._timers, seconds)

    def call_later(self, seconds: float, callback: Any, *args: object) -> VirtualTimer:
        return self._call_later(self._timers, seconds, callback, args)

    @property
    def pending(self) -> int:
        """How many timers and sleepers wait."""
        return sum(not t.cancelled for heap in (self._timers, self._upkeep) for _, _, t in heap)

    @property
    def next_deadline(self) -> float | None:
        """When (as ``monotonic()`` counts) the next timer is due, if there is one."""
        return min((d for d in map(_first, (self._timers, self._upkeep)) if d is not None),
                   default=None)  # fmt: skip

    def advance(self, seconds: float) -> None:
        """Moves the time on; timers that fall due run now, each at its own deadline."""
        target = self._elapsed + seconds
        while self._fire_next(target):
            pass
        self._elapsed = max(self._elapsed, target)

    def set(self, moment: datetime) -> None:
        """Advances to ``moment``."""
        self.advance((moment - self.now()).total_seconds())

    def step(self, target: float, *, heartbeats: bool = True) -> bool:
        """Moves to the next moment at which something is due, at most to ``target`` (as
        ``monotonic()`` counts), and fires the timers of one deadline. False: nothing is due
        any more up to the target, where the clock stands now.

        ``heartbeats=False`` passes over upkeep; what of it is overdue at ``target`` fires there.
        """
        overdue = _first(self._upkeep)
        if overdue is None or overdue > self._elapsed:
            deadline = self.next_deadline if heartbeats else _first(self._timers)
            moment = target if deadline is None else min(target, deadline)
            self._elapsed = max(self._elapsed, moment)
        deadline = self.next_deadline
        if deadline is None or deadline > self._elapsed:
            return False
        while self.next_deadline == deadline:
            self._fire()
        return True

    def _sleep(self, heap: _Heap, seconds: float) -> Any:
        return next_tick() if seconds <= 0 else self._wait(heap, seconds)

    async def _wait(self, heap: _Heap, seconds: float) -> None:
        future = new_future()
        timer = self._call_later(heap, seconds, _wake, (future,))
        try:
            await future
        finally:
            timer.cancel()

    def _call_later(
        self, heap: _Heap, seconds: float, callback: Any, args: tuple[object, ...]
    ) -> VirtualTimer:
        timer = VirtualTimer(self._elapsed + max(seconds, 0.0), callback, args)
        heapq.heappush(heap, (timer.deadline, next(self._order), timer))
        for count, future in self._watchers:
            if self.pending >= count:
                _wake(future)
        return timer

    def _fire_next(self, target: float) -> bool:
        deadline = self.next_deadline
        if deadline is None or deadline > target:
            return False
        self._elapsed = max(self._elapsed, deadline)
        self._fire()
        return True

    def _fire(self) -> None:
        """The timer that is due first, whenever that is. ``next_deadline`` was asked before."""
        heaps = [heap for heap in (self._timers, self._upkeep) if heap]
        _, _, timer = heapq.heappop(min(heaps, key=lambda heap: heap[0][:2]))
        timer.cancelled = True
        timer.callback(*timer.args)


class _Upkeep:
    """The same clock for timers that a jump may pass over."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.now = clock.now
        self.time = clock.time
        self.monotonic = clock.monotonic

    async def sleep(self, seconds: float) -> None:
        await self._clock._sleep(self._clock._upkeep, seconds)

    def call_later(self, seconds: float, callback: Any, *args: object) -> VirtualTimer:
        return self._clock._call_later(self._clock._upkeep, seconds, callback, args)


def _first(heap: _Heap) -> float | None:
    while heap and heap[0][2].cancelled:
        heapq.heappop(heap)
    return heap[0][0] if heap else None


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
