"""Tells of a pod that starts slowly before it runs: ContainerCreating (``kubelet.sync_pod``).

A pod that starts fast is reported once, running; a write saved for each of thousands. On an event
loop that is behind every start looks slow, and one more write would make it later still, so the
report waits while its own timer is late.
"""

from __future__ import annotations

from collections.abc import Callable

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus
from pilothouse.kubelet.runtime.restart_all import condition_holds

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


def is_new(pod: Obj, runtime: PodRuntimeStatus) -> bool:
    """Nothing of the pod has ever run, as far as anybody knows: its status says that it is pending,
    and need not be made to find that out."""
    status = pod.get("status") or {}
    if runtime.sandboxes or runtime.containers or condition_holds(status):
        return False
    if any(status.get(key) for key in _OF_CONTAINERS):
        return False
    return status.get("phase") not in ("Succeeded", "Failed")


_OF_CONTAINERS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
