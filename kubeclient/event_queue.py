"""What both recorders of events share: a bounded queue with one writer, names of events."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from zlib import crc32

from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.activity import ActivityTracker

MAX_QUEUED_EVENTS = 1000
_OFFSETS = 1_000_000

T = TypeVar("T")


class EventQueue(Generic[T]):
    """``write`` is called for one item after the other, by a task that lives while there are any.
    It must not raise. That task is busy but for when it only waits for time (``idle``)."""

    def __init__(
        self, component: str, activity: ActivityTracker, write: Callable[[T], Awaitable[None]]
    ) -> None:
        self._activity = activity
        self._write = write
        self._queue: deque[T] = deque()
        self._tasks = TaskOwner(f"events-{component}")
        self._writer: asyncio.Task[Any] | None = None
        self._busy = False
        self._closed = False

    @property
    def accepts(self) -> bool:
        """False once closed, or while too many events wait: they are dropped."""
        return not self._closed and len(self._queue) < MAX_QUEUED_EVENTS

    def put(self, item: T) -> None:
        self._queue.append(item)
        if self._writer is None:
            self._set_busy(True)
            self._writer = self._tasks.start(self._write_all(), "writer")

    def _set_busy(self, busy: bool) -> None:
        if busy is not self._busy:
            self._busy = busy
            (self._activity.begin if busy else self._activity.end)("events")

    @contextmanager
    def idle(self) -> Iterator[None]:
        """While ``write`` waits for nothing but time: the events behind it wait as well."""
        self._set_busy(False)
        try:
            yield
        finally:
            self._set_busy(not self._closed)

    async def close(self) -> None:
        """Stops writing; what is queued is lost."""
        self._closed = True
        await self._tasks.close()
        self._queue.clear()
        self._set_busy(False)

    async def _write_all(self) -> None:
        try:
            while self._queue:
                await self._write(self._queue.popleft())
        finally:
            self._writer = None
            self._set_busy(False)


class EventNames:
    """``<object>.<nanoseconds in hex>``, new each time even when the clock stands still; each
    component's are some nanoseconds off those of others, who may tell of the object now, too."""

    def __init__(self, clock: Clock, component: str = "") -> None:
        self._clock = clock
        self._offset = crc32(component.encode()) % _OFFSETS
        self._last = 0

    def next(self, name: Any) -> str:
        self._last = max(int(self._clock.time() * 1e9) + self._offset, self._last + 1)
        return f"{name}.{self._last:x}"
