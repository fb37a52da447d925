"""When keys with a ttl are due, for the embedded stores (etcd has leases).

A pure heap with one timer on the clock. An entry is void once its key was written again: a
write's ttl replaces the earlier one, as with etcd.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.clock import Clock, TimerHandle

Due = tuple[float, str, int]
"""Deadline (wall time), key, mod revision."""


class ExpiryQueue:
    """Calls ``on_due`` with everything that is due, in order of deadline."""

    def __init__(self, clock: Clock, on_due: Callable[[list[Due]], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._heap: list[Due] = []
        self._timer: TimerHandle | None = None
        self._armed_for = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, key: str, revision: int) -> None:
        heapq.heappush(self._heap, (deadline, key, revision))
        self.arm()

    def load(self, entries: list[Due]) -> None:
        self._heap = list(entries)
        heapq.heapify(self._heap)

    def entries(self) -> list[Due]:
        return self._heap.copy()

    def arm(self) -> None:
        """Sets the timer for the earliest deadline (needs a running loop)."""
        if not self._heap:
            return
        deadline = self._heap[0][0]
        if self._timer is not None:
            if self._armed_for <= deadline:
                return
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = self._clock.call_later(max(0.0, deadline - self._clock.time()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.time()
        due: list[Due] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap))
        if due:
            self._on_due(due)
        self.arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
