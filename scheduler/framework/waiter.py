"""A binding that waits for others: for volumes to be bound, for devices to be attached."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.scheduler.framework.handle import Handle

ACTIVITY = "binding"
"""Held by the scheduler while it binds; let go while only others can go on."""


class Waiter:
    """One binding that waits for others; meanwhile it counts as idle."""

    def __init__(self, handle: Handle) -> None:
        self._activity = handle.activity
        self._event = asyncio.Event()
        self._idle = False

    async def wait(self) -> None:
        if not self._event.is_set():
            self._idle = True
            self._activity.end(ACTIVITY)
            try:
                await self._event.wait()
            finally:
                self._busy()
        self._event.clear()

    def wake(self) -> None:
        """Busy from now on, not from when the task runs: nobody must see a gap."""
        self._busy()
        self._event.set()

    def _busy(self) -> None:
        if self._idle:
            self._idle = False
            self._activity.begin(ACTIVITY)
