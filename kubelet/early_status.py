"""Tells of a pod that starts slowly before it runs: ContainerCreating (``kubelet.sync_pod``).

A pod that starts fast is reported once, running; a write saved for each of thousands. On an event
loop that is behind every start looks slow, and one more write would make it later still, so the
report waits while its own timer is late.
"""

from __future__ import annotations

from collections.abc import Callable

from pilothouse.apimachinery.clock import Clock

EARLY_STATUS_SECONDS = 0.05
LATE_SECONDS = 0.003
"""A timer that fires this much after its time says that the loop is behind."""
MAX_WAITS = 40


class EarlyStatus:
    """Calls ``report`` after 50 ms, later (2 s at most) on a busy loop, never once cancelled."""

    def __init__(self, clock: Clock, report: Callable[[], None]) -> None:
        self._clock = clock
        self._report = report
        self._waits = 0
        self._wait()

    def cancel(self) -> None:
        self._timer.cancel()

    def _wait(self) -> None:
        self._waits += 1
        self._due = self._clock.monotonic() + EARLY_STATUS_SECONDS
        self._timer = self._clock.call_later(EARLY_STATUS_SECONDS, self._fire)

    def _fire(self) -> None:
        late = self._clock.monotonic() - self._due
        if late > LATE_SECONDS and self._waits < MAX_WAITS:
            self._wait()
        else:
            self._report()
