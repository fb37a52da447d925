"""What a kubelet looks after now and then: logs, images, and whether its node runs short.

One task a node; only with containers that are real. Each look's trouble is its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock, upkeep

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Chore:
    name: str
    seconds: float
    do: Callable[[], Awaitable[None]]
    at_once: bool = False
    """Also when the kubelet starts."""
    due: float = 0.0


class Housekeeping:
    def __init__(self, clock: Clock, chores: list[Chore]) -> None:
        self._clock = clock
        self._chores = chores

    async def run(self) -> None:
        """Until cancelled."""
        start = self._clock.monotonic()
        for chore in self._chores:
            chore.due = start if chore.at_once else start + chore.seconds
        while self._chores:
            await self._wait(min(chore.due for chore in self._chores))
            now = self._clock.monotonic()
            for chore in self._chores:
                if chore.due <= now:
                    await self._do(chore)
                    chore.due = self._clock.monotonic() + chore.seconds

    @staticmethod
    async def _do(chore: Chore) -> None:
        try:
            await chore.do()
        except Exception:  # the others go on
            log.exception("%s failed", chore.name)

    async def _wait(self, until: float) -> None:
        reached = asyncio.Event()
        seconds = max(until - self._clock.monotonic(), 0.0)
        timer = upkeep(self._clock).call_later(seconds, reached.set)
        try:
            await reached.wait()
        finally:
            timer.cancel()
