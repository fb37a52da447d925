"""When a pod that starts slowly is told of before it runs."""

from __future__ import annotations

from datetime import UTC, datetime

from pilothouse.apimachinery.clock import TimerHandle
from pilothouse.kubelet.early_status import EARLY_STATUS_SECONDS, MAX_WAITS, EarlyStatus


class _Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class LoopClock:
    """Timers fire by hand, as late as the test says."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.timers: list[tuple[float, object, _Timer]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def time(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def call_later(self, seconds: float, callback: object, *args: object) -> TimerHandle:
        timer = _Timer()
        self.timers.append((self.seconds + seconds, callback, timer))
        return timer

    def fire(self, late: float) -> None:
        due, callback, timer = self.timers.pop(0)
        self.seconds = due + late
        if not timer.cancelled:
            callback()  # type: ignore[operator]


def test_reports_once_when_the_loop_is_on_time() -> None:
    clock, told = LoopClock(), list[float]()
    EarlyStatus(clock, lambda: told.append(clock.seconds))
    clock.fire(late=0.001)
    assert told == [100.0 + EARLY_STATUS_SECONDS + 0.001]
    assert not clock.timers


def test_waits_while_the_loop_is_behind() -> None:
    clock, told = LoopClock(), list[float]()
    EarlyStatus(clock, lambda: told.append(clock.seconds))
    for _ in range(3):
        clock.fire(late=0.02)
        assert not told
    clock.fire(late=0.0)
    assert len(told) == 1
    assert not clock.timers


def test_does_not_wait_for_ever() -> None:
    clock, told = LoopClock(), list[float]()
    EarlyStatus(clock, lambda: told.append(clock.seconds))
    for _ in range(MAX_WAITS):
        assert not told
        clock.fire(late=1.0)
    assert len(told) == 1
    assert not clock.timers


def test_nothing_is_told_once_the_pod_runs() -> None:
    clock, told = LoopClock(), list[float]()
    early = EarlyStatus(clock, lambda: told.append(clock.seconds))
    clock.fire(late=0.02)
    early.cancel()
    clock.fire(late=0.0)
    assert not told
