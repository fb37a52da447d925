"""Delivery in batches, off the request's path (plugin/pkg/audit/buffered).

Events wait in a bounded buffer until a batch is full or its oldest has waited long enough; a
full buffer drops what comes. A token bucket bounds the batches a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.tasks import TaskOwner

Event = dict[str, Any]


class Delivery(Protocol):
    """Takes one batch. Reports its own errors; never raises."""

    name: str

    async def deliver(self, events: Sequence[Event]) -> bool: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchLimits:
    buffer_size: int = 10_000
    max_size: int = 400
    max_wait: float = 30.0
    throttle_qps: float = 0.0
    """Batches a second; 0: as many as there are."""
    throttle_burst: int = 15


class BatchBackend:
    """Buffers for a :class:`Delivery`; one task runs while there is something to send."""

    def __init__(
        self,
        delivery: Delivery,
        limits: BatchLimits,
        clock: Clock,
        tasks: TaskOwner,
        on_error: Callable[[str, BaseException, int], None],
    ) -> None:
        self.name = delivery.name
        self._delivery = delivery
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._on_error = on_error
        self._buffer: deque[Event] = deque()
        self._timer: Any = None
        self._sending: asyncio.Task[None] | None = None
        self._due = 0
        """How many of the buffered events are to be sent now."""
        self._tokens = float(limits.throttle_burst)
        self._refilled = clock.monotonic()

    async def start(self) -> None:
        """Nothing runs before there are events."""

    def process(self, events: Sequence[Event]) -> bool:
        room = self._limits.buffer_size - len(self._buffer)
        if room < len(events):
            error = OverflowError("audit buffer queue blocked")
            self._on_error("buffered", error, len(events) - max(room, 0))
            events = events[: max(room, 0)]
        self._buffer.extend(events)
        if len(self._buffer) >= self._limits.max_size:
            self._send(len(self._buffer) // self._limits.max_size * self._limits.max_size)
        elif self._buffer and self._timer is None:
            self._timer = self._clock.call_later(self._limits.max_wait, self._waited)
        return True

    def _waited(self) -> None:
        self._timer = None
        self._send(len(self._buffer))

    def _send(self, count: int) -> None:
        self._due = max(self._due, count)
        if self._due and self._sending is None:
            self._sending = self._tasks.start(self._run(), f"audit-{self.name}")

    async def _run(self) -> None:
        try:
            while self._due and self._buffer:
                await self._throttle()
                size = min(self._due, self._limits.max_size, len(self._buffer))
                batch = [self._buffer.popleft() for _ in range(size)]
                self._due -= size
                await self._delivery.deliver(batch)
        finally:
            self._sending = None
            self._due = 0

    async def _throttle(self) -> None:
        rate = self._limits.throttle_qps
        if not rate:
            return
        now = self._clock.monotonic()
        self._tokens = min(
            self._limits.throttle_burst, self._tokens + (now - self._refilled) * rate
        )
        self._refilled = now
        self._tokens -= 1
        if self._tokens < 0:
            await self._clock.sleep(-self._tokens / rate)

    async def close(self) -> None:
        """Sends what is left, without throttling."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        while self._buffer:
            size = min(self._limits.max_size, len(self._buffer))
            await self._delivery.deliver([self._buffer.popleft() for _ in range(size)])
        await self._delivery.close()
