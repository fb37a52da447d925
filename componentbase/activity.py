"""Who is busy: the base of ``Cluster.settle()``.

Each cluster has one :class:`ActivityTracker`. A part that has work in hand (a queued key, an
undelivered watch event, a write under way, a pod worker in mid-sync) holds one count from
``begin`` to ``end``; work that only waits for time (a back-off, a resync) holds none. A
probe answers for work that is easier to ask for than to count. No part polls: whoever makes the
count zero wakes the waiters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Probe = Callable[[], bool]


class ActivityTracker:
    """Counts work in hand, by name, for one cluster. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._total = 0
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._probes: dict[str, Probe] = {}

    def begin(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        self._total += 1

    def end(self, name: str) -> None:
        left = self._counts[name] - 1
        if left:
            self._counts[name] = left
        else:
            del self._counts[name]
        self._total -= 1
        if not self._total:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    @contextmanager
    def work(self, name: str) -> Iterator[None]:
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def add_probe(self, name: str, busy: Probe) -> None:
        """``busy()`` is asked at each settle round; true means not idle yet."""
        self._probes[name] = busy

    def remove_probe(self, name: str) -> None:
        self._probes.pop(name, None)

    def busy(self) -> list[str]:
        """Names of what is busy right now, for error messages."""
        return sorted(self._counts) + sorted(n for n, probe in self._probes.items() if probe())

    async def settle(self, turns: int = 3) -> None:
        """Returns when nothing was busy over ``turns`` successive turns of the event loop."""
        quiet = 0
        while quiet < turns:
            if self._total:
                waiter = asyncio.get_running_loop().create_future()
                self._idle_waiters.append(waiter)
                await waiter
                quiet = 0
            else:
                await asyncio.sleep(0)
                quiet = quiet + 1 if not self.busy() else 0
