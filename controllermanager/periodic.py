"""Controllers that look at everything from time to time instead of following changes."""

from __future__ import annotations

import logging

from pilothouse.apimachinery.errors import StatusError
from pilothouse.controllermanager.controller import Controller

log = logging.getLogger(__name__)


class PeriodicController(Controller):
    """``look`` is called at the start and every ``period`` seconds."""

    period = 3600.0

    async def look(self) -> None:
        raise AssertionError(f"{self.name} does not know what to look at")

    def start_workers(self) -> None:
        self.run_task(self._go_on(), "period")

    async def _go_on(self) -> None:
        while True:
            with self.env.activity.work(self.name):
                try:
                    await self.look()
                except (StatusError, ConnectionError, TimeoutError) as error:
                    log.warning("%s: %s", self.name, error)
            await self.clock.sleep(self.period)
