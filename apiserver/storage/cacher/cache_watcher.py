"""One watcher's bounded buffer (apiserver pkg/storage/cacher/cache_watcher.go).

The cacher calls ``offer`` for each change in the watcher's scope; the consumer takes whole
batches. A watcher whose buffer is full is ended, as upstream ends it: the client resumes from
the last resourceVersion that it saw.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from pilothouse.apiserver.storage.cacher.watch_cache import Entry, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apiserver.storage.cacher.interfaces import Predicate

log = logging.getLogger(__name__)

_INITIAL_BATCH = 500
"""Current objects are handed over in batches of this many and made into events only then."""


class CacheWatcher:
    """See ``cacher/interfaces.py``. Made by ``Cacher.watch`` only."""

    __slots__ = (
        "_bookmark_after_initial",
        "_buffer",
        "_forget",
        "_initial",
        "_initial_at",
        "_limit",
        "_wake",
        "bookmarks",
        "closed",
        "deadline",
        "error",
        "floor",
        "predicate",
        "too_slow",
        "trigger",
    )

    def __init__(
        self,
        *,
        predicate: Predicate | None,
        limit: int,
        floor: int,
        forget: Callable[[CacheWatcher], None],
        deadline: float | None = None,
        trigger: tuple[str, str] | None = None,
    ) -> None:
        self.predicate = predicate
        self.floor = floor
        """Only events with a greater revision are wanted."""
        self.deadline = deadline
        self.trigger = trigger
        self.bookmarks = False
        self.error: Exception | None = None
        self.closed = False
        self.too_slow = False
        self._limit = limit
        self._forget = forget
        self._buffer: list[Event] = []
        self._initial: list[Entry] = []
        self._initial_at = 0
        self._bookmark_after_initial: Event | None = None
        self._wake: Callable[[], None] | None = None

    def begin(self, entries: list[Entry], end: Event | None) -> None:
        """Puts the current objects, then ``end``, before all later events."""
        self._initial = entries
        self._bookmark_after_initial = end

    def replay(self, events: list[Event]) -> None:
        """History since ``floor``, for a watch that resumes; not counted against the limit."""
        if self.predicate is not None:
            seen = (event.transition(self.predicate) for event in events)
            events = [event for event in seen if event is not None]
        self._buffer = events
        self._limit += len(events)

    def offer(self, event: Event) -> None:
        """Takes a change of the watcher's scope; cheap, called for every watcher."""
        if event.revision <= self.floor or self.closed:
            return
        if self.predicate is not None:
            try:
                seen = event.transition(self.predicate)
            except Exception as error:
                # One watcher's selector must not cost the others the event.
                log.exception("a watch was ended: its selector failed on %s", event)
                self.end(error)
                return
            if seen is None:
                return
            event = seen
        buffer = self._buffer
        if len(buffer) >= self._limit:
            self.too_slow = True
            self.end(None)
            return
        buffer.append(event)
        wake = self._wake
        if wake is not None:
            self._wake = None
            try:
                wake()
            except Exception:
                log.exception("waking a watcher failed")

    def offer_bookmark(self, event: Event) -> None:
        """A bookmark that finds no room is left out."""
        if not self.closed and len(self._buffer) < self._limit:
            self._buffer.append(event)
            if self._wake is not None:
                self._call_wake()

    def _call_wake(self) -> None:
        callback, self._wake = self._wake, None
        if callback is not None:
            try:
                callback()
            except Exception:
                log.exception("waking a watcher failed")

    @property
    def pending(self) -> bool:
        return (
            bool(self._buffer)
            or self._initial_at < len(self._initial)
            or self._bookmark_after_initial is not None
        )

    def wake(self, callback: Callable[[], None] | None) -> None:
        """``callback`` runs once, as soon as there is something to take or the watch has ended;
        from the event loop when that is so already. None takes an earlier callback back."""
        self._wake = callback
        if callback is not None and (self.closed or self.pending):
            asyncio.get_running_loop().call_soon(self._call_wake)

    def idle(self, callback: Callable[[], None]) -> bool:
        """``wake``, unless there is something to do: then False. Called after each delivery."""
        if self._buffer or self.closed or self._initial or self._bookmark_after_initial:
            return False
        self._wake = callback
        return True

    def take(self) -> list[Event]:
        initial = self._initial
        if self._initial_at < len(initial):
            return self._take_initial(initial)
        batch, self._buffer = self._buffer, []
        if self._bookmark_after_initial is not None:
            batch.insert(0, self._bookmark_after_initial)
            self._bookmark_after_initial = None
        return batch

    def _take_initial(self, initial: list[Entry]) -> list[Event]:
        end = self._initial_at + _INITIAL_BATCH
        batch = [
            Event("ADDED", entry, None, entry.revision) for entry in initial[self._initial_at : end]
        ]
        self._initial_at = end
        if end >= len(initial):
            self._initial = []
            self._initial_at = 0
            if self._bookmark_after_initial is not None:
                batch.append(self._bookmark_after_initial)
                self._bookmark_after_initial = None
        return batch

    async def next_batch(self) -> list[Event]:
        while True:
            if self.pending:
                return self.take()
            if self.closed:
                return []
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._wake = partial(_finish, future)
            try:
                await future
            finally:
                self._wake = None

    def end(self, error: Exception | None) -> None:
        """Ends the watch; what is in the buffer can still be taken."""
        if self.closed:
            return
        self.closed = True
        self.error = error
        self._forget(self)
        if self._wake is not None:
            self._call_wake()

    def close(self) -> None:
        """The consumer has gone: drops everything."""
        self._buffer = []
        self._initial = []
        self._initial_at = 0
        self._bookmark_after_initial = None
        self.end(None)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
