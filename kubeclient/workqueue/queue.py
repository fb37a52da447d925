"""The work queue of a controller: fair, stingy, and safe for many workers.

:class:`KeySets` is the pure part: a key that is added while it is worked on comes back after
``done``, a key that is added twice before that is worked on once. :class:`WorkQueue` adds
waiting, delays on the clock and the activity count (keys that only wait for time hold none).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

from pilothouse.apimachinery.clock import upkeep as keeping_up
from pilothouse.componentbase.histograms import Series
from pilothouse.kubeclient.workqueue.rate_limiters import (
    RateLimiter,
    default_controller_rate_limiter,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock, TimerHandle
    from pilothouse.componentbase.activity import ActivityTracker

K = TypeVar("K", bound=Hashable)
DURATION_BUCKETS = (
    1e-08, 1e-07, 1e-06, 9.999999999999999e-06, 9.999999999999999e-05, 0.001, 0.01, 0.1, 1.0, 10.0,
)  # fmt: skip
"""client-go's, to the last digit."""


class KeySets(Generic[K]):
    """dirty: needs work. processing: has a worker. Queued: dirty and not processing."""

    __slots__ = ("dirty", "processing", "queue")

    def __init__(self) -> None:
        self.queue: deque[K] = deque()
        self.dirty: set[K] = set()
        self.processing: set[K] = set()

    def add(self, key: K) -> bool:
        """Marks the key as needing work; True when a worker may take one more key now."""
        if key in self.dirty:
            return False
        self.dirty.add(key)
        if key in self.processing:
            return False
        self.queue.append(key)
        return True

    def take(self) -> K:
        """The key that has waited longest, now being processed. :raises IndexError: none."""
        key = self.queue.popleft()
        self.processing.add(key)
        self.dirty.discard(key)
        return key

    def done(self, key: K) -> bool:
        """Ends processing; True when the key was added meanwhile and is queued again."""
        self.processing.discard(key)
        if key in self.dirty:
            self.queue.append(key)
            return True
        return False

    def holds(self, key: K) -> bool:
        return key in self.dirty or key in self.processing


class WorkQueue(Generic[K]):
    """``key = await get()``, work, ``done(key)``; on failure also ``add_rate_limited(key)``."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        activity: ActivityTracker | None = None,
        rate_limiter: RateLimiter[K] | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._activity = activity
        self._limiter: RateLimiter[K] = rate_limiter or default_controller_rate_limiter(clock)
        self._sets: KeySets[K] = KeySets()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._waiting: dict[K, tuple[float, TimerHandle]] = {}
        self._shutting_down = False
        self.adds = 0
        """Keys that were marked as needing work; for metrics."""
        self.retries = 0
        self.queue_seconds = Series(DURATION_BUCKETS)
        """How long keys waited for a worker, and how long work took them; for metrics."""
        self.work_seconds = Series(DURATION_BUCKETS)
        self._added: dict[K, float] = {}
        self._begun: dict[K, float] = {}

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._sets.queue)

    @property
    def waiting(self) -> int:
        """Keys that wait for the clock."""
        return len(self._waiting)

    def add(self, key: K) -> None:
        if self._shutting_down:
            return
        sets = self._sets
        if self._activity is not None and not sets.holds(key):
            self._activity.begin(self.name)
        before = len(sets.dirty)
        if sets.add(key):
            self._wake_one()
        if len(sets.dirty) != before:
            self.adds += 1
            self._added[key] = perf_counter()

    def add_after(self, key: K, seconds: float, *, upkeep: bool = False) -> None:
        """Adds the key when the time is over; of several pending delays the earliest counts.
        ``upkeep``: only to see that all is well still (``apimachinery/clock.py``)."""
        if self._shutting_down:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        pending = self._waiting.get(key)
        if pending is not None:
            if pending[0] <= due:
                return
            pending[1].cancel()
        clock = keeping_up(self._clock) if upkeep else self._clock
        self._waiting[key] = (due, clock.call_later(seconds, self._due, key))

    def add_rate_limited(self, key: K) -> None:
        self.retries += 1
        self.add_after(key, self._limiter.when(key))

    def add_failed(self, key: K) -> None:
        """Adds the key at once but counts a failure: for a lost race, where waiting gains
        nothing."""
        self._limiter.when(key)
        self.add(key)

    def forget(self, key: K) -> None:
        """The key succeeded (or is given up): its next failure starts from the shortest delay."""
        self._limiter.forget(key)

    def num_requeues(self, key: K) -> int:
        return self._limiter.num_requeues(key)

    async def get(self) -> K | None:
        """The next key, or None when the queue is shut down and empty."""
        while not self._sets.queue:
            if self._shutting_down:
                return None
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled():
                    self._wake_one()
                elif getter in self._getters:
                    self._getters.remove(getter)
                raise
        key = self._sets.take()
        now = self._begun[key] = perf_counter()
        self.queue_seconds.observe(now - self._added.pop(key, now))
        return key

    def unfinished(self) -> list[float]:
        """How long the keys that are being worked on have been so, in seconds."""
        now = perf_counter()
        return [now - begun for begun in self._begun.values()]

    def done(self, key: K) -> None:
        begun = self._begun.pop(key, None)
        if begun is not None:
            self.work_seconds.observe(perf_counter() - begun)
        if self._sets.done(key):
            self._wake_one()
        elif self._activity is not None:
            self._activity.end(self.name)

    def shut_down(self) -> None:
        """No more adds; getters get what is left and then None."""
        self._shutting_down = True
        for _, timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        getters, self._getters = self._getters, deque()
        for getter in getters:
            if not getter.done():
                getter.set_result(None)

    def clear(self) -> None:
        """After ``shut_down`` and the end of all workers: drops what nobody will do."""
        sets = self._sets
        if self._activity is not None:
            for _ in sets.dirty | sets.processing:
                self._activity.end(self.name)
        self._sets = KeySets()
        self._added.clear()
        self._begun.clear()

    def _due(self, key: K) -> None:
        self._waiting.pop(key, None)
        self.add(key)

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
