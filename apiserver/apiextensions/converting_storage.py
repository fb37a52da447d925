"""A store whose values are converted on their way to the watch cache and back.

Behind the cacher of one served version of a kind with a conversion webhook: lists are converted
page by page, a watch's events in order by one task, writes before they are stored. The cacher
above sees only its own version, and each version of an object is converted once for it. What
needs no webhook passes through at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from pilothouse.apiserver.storage.errors import (
    KeyExists,
    RevisionConflict,
    StorageError,
    Unconvertible,
    Undecodable,
)
from pilothouse.apiserver.storage.interfaces import KeyValue
from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilothouse.apiserver.storage.interfaces import (
        RangeResult,
        Storage,
        StorageEvent,
        WatchHandle,
        WatchSink,
    )

log = logging.getLogger(__name__)


class Conversion(Protocol):
    """Between stored values and those of the served version."""

    def at_once(self, value: bytes) -> bytes | None:
        """The served form if no webhook is needed for it."""

    async def served_form(self, values: Sequence[bytes]) -> list[bytes]:
        """:raises Unconvertible: the webhook fails."""

    async def storage_form(self, value: bytes) -> bytes:
        """:raises Unconvertible: the webhook fails."""


class ConvertingStorage:
    """Implements ``storage/interfaces.py`` Storage; the errors' values are converted too."""

    synchronous_watch = False

    def __init__(self, storage: Storage, conversion: Conversion, name: str) -> None:
        self._storage = storage
        self._conversion = conversion
        self._tasks = TaskOwner(f"convert-{name}")
        self._watches: list[_Watch] = []
        self.known: Callable[[str], object] = lambda key: None
        """Whether the cache above holds a key: its deletion needs no conversion then."""

    async def start(self) -> None:
        """The store below has its own owner."""

    async def close(self) -> None:
        for watch in list(self._watches):
            watch.cancel()
        await self._tasks.close()

    # reads

    async def get(self, key: str) -> KeyValue | None:
        found = await self._storage.get(key)
        return None if found is None else await self._served(found)

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        page = await self._storage.range(prefix, start=start, limit=limit, revision=revision)
        values = await self.convert(page.kvs)
        kvs = [kv._replace(value=value) for kv, value in zip(page.kvs, values, strict=True)]
        return page._replace(kvs=kvs)

    async def convert(self, kvs: Sequence[KeyValue]) -> list[bytes]:
        """Stored values as the served version has them; one review for all that need it.

        :raises Undecodable: with the first that can't be had.
        """
        found = [self._conversion.at_once(kv.value) for kv in kvs]
        missing = [i for i, value in enumerate(found) if value is None]
        if missing:
            try:
                converted = await self._conversion.served_form([kvs[i].value for i in missing])
            except Unconvertible as error:
                kv = kvs[missing[error.index]]
                raise Undecodable(kv.key, kv.mod_revision, str(error)) from error
            for i, value in zip(missing, converted, strict=True):
                found[i] = value
        return [value for value in found if value is not None]

    async def _served(self, kv: KeyValue) -> KeyValue:
        return kv._replace(value=(await self.convert([kv]))[0])

    async def current_revision(self) -> int:
        """Waits until what has happened up to now is converted: readers wait for it anyway."""
        revision = await self._storage.current_revision()
        for watch in list(self._watches):
            await watch.caught_up()
            if self._storage.synchronous_watch:
                # Such stores say nothing about revisions of other kinds' writes.
                watch.reached(revision)
        return revision

    @property
    def compacted_revision(self) -> int:
        return self._storage.compacted_revision

    async def compact(self, revision: int) -> None:
        await self._storage.compact(revision)

    # writes

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        stored = await self._conversion.storage_form(value)
        try:
            return await self._storage.create(key, stored, ttl=ttl)
        except KeyExists as error:
            raise KeyExists(await self._current(error.current)) from error

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        stored = await self._conversion.storage_form(value)
        try:
            return await self._storage.update(key, stored, expected=expected, ttl=ttl)
        except RevisionConflict as error:
            raise RevisionConflict(await self._current(error.current)) from error

    async def delete(self, key: str, *, expected: int) -> int:
        try:
            return await self._storage.delete(key, expected=expected)
        except RevisionConflict as error:
            raise RevisionConflict(await self._current(error.current)) from error

    async def _current(self, current: KeyValue | None) -> KeyValue | None:
        return None if current is None else await self._served(current)

    # watches

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> WatchHandle:
        watch = _Watch(self, sink, self._tasks, self._watches.remove)
        self._watches.append(watch)
        watch.follow(self._storage.watch(prefix, start_revision, watch))
        return watch

    async def delivered(self) -> None:
        """Waits until the cache has the events that the store has sent so far."""
        for watch in list(self._watches):
            await watch.caught_up()

    def at_once(self, event: StorageEvent) -> StorageEvent | None:
        """``event`` as the cache takes it; None: the webhook has to be asked."""
        if event.type == "DELETE" and self.known(event.key) is not None:
            return event  # the cache knows its last state in its own version
        value = self._conversion.at_once(event.value)
        return None if value is None else event._replace(value=value)


class _Watch:
    """A WatchSink for the store below, and the WatchHandle of the cache above."""

    def __init__(
        self,
        storage: ConvertingStorage,
        sink: WatchSink,
        tasks: TaskOwner,
        forget: Callable[[_Watch], None],
    ) -> None:
        self._storage = storage
        self._sink = sink
        self._tasks = tasks
        self._forget = forget
        self._below: WatchHandle | None = None
        self._queue: list[tuple[list[StorageEvent], int]] = []
        self._worker: asyncio.Task[None] | None = None
        self._idle: list[asyncio.Future[None]] = []
        self._ended = False

    def follow(self, below: WatchHandle) -> None:
        self._below = below
        if self._ended:
            below.cancel()

    def on_events(self, events: list[StorageEvent], revision: int) -> None:
        if self._ended:
            return
        if self._worker is None:
            ready = [self._storage.at_once(event) for event in events]
            if None not in ready:
                self._sink.on_events([event for event in ready if event is not None], revision)
                return
        self._queue.append((events, revision))
        if self._worker is None:
            self._worker = self._tasks.start(self._work(), "events")

    def reached(self, revision: int) -> None:
        if not self._ended and self._worker is None:
            self._sink.on_events([], revision)

    async def caught_up(self) -> None:
        if self._worker is None:
            return
        future = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        await future

    async def _work(self) -> None:
        try:
            while self._queue:
                waiting, self._queue = self._queue, []
                events = [event for some, _ in waiting for event in some]
                ready = await self._convert(events)
                if self._ended:
                    return
                self._sink.on_events(ready, waiting[-1][1])
        except StorageError as error:
            log.warning("objects of a watch could not be converted: %s", error)
            self._end(error)
        finally:
            self._worker = None
            self._wake()

    async def _convert(self, events: list[StorageEvent]) -> list[StorageEvent]:
        needed: dict[int, KeyValue] = {}
        known = self._storage.known
        alive: dict[str, bool] = {}
        for i, event in enumerate(events):
            held = alive.get(event.key, known(event.key) is not None)
            if event.type != "DELETE" or not held:
                needed[i] = KeyValue(event.key, event.value, event.revision)
            alive[event.key] = event.type != "DELETE"
        values = await self._storage.convert(list(needed.values()))
        converted = dict(zip(needed, values, strict=True))
        return [
            event._replace(value=converted[i]) if i in converted else event
            for i, event in enumerate(events)
        ]

    def _wake(self) -> None:
        waiting, self._idle = self._idle, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def on_closed(self, error: Exception | None) -> None:
        if not self._ended:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._stop()
        self._sink.on_closed(error)

    def cancel(self) -> None:
        if not self._ended:
            self._end(None)
            if self._worker is not None:
                self._worker.cancel()

    def _stop(self) -> None:
        self._ended = True
        self._queue.clear()
        self._forget(self)
        if self._below is not None:
            self._below.cancel()
