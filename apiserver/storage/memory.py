"""The reference store: everything in memory, every write visible at once.

Used by tests and by clusters that live no longer than their process. Values and events are
immutable, so a fork is a handful of shallow copies. History is kept until ``compact``.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING

from pilothouse.apiserver.storage.errors import (
    Compacted,
    FutureRevision,
    KeyExists,
    RevisionConflict,
    Unavailable,
)
from pilothouse.apiserver.storage.expiry import Due, ExpiryQueue
from pilothouse.apiserver.storage.interfaces import (
    KeyValue,
    RangeResult,
    StorageEvent,
    WatchSink,
)
from pilothouse.apiserver.storage.key_index import KeyIndex
from pilothouse.apiserver.storage.versioner import compact
from pilothouse.apiserver.storage.watch_hub import Watch, WatchHub

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

_FIRST_REVISION = 1
"""A fresh etcd stands at 1 as well."""


class MemoryStorage:
    """A Storage (``storage/interfaces.py``) in dicts, with ``fork``."""

    synchronous_watch = True

    def __init__(self, clock: Clock, *, max_history: int = 100_000) -> None:
        self._clock = clock
        self._max_history = max_history
        self._live: dict[str, KeyValue] = {}
        self._index = KeyIndex()
        self._history: list[StorageEvent] = []
        """All events from ``_compacted`` on, by revision."""
        self._compacted = 0
        self._hub = WatchHub(_FIRST_REVISION)
        self._expiry = ExpiryQueue(clock, self._expire)
        self._closed = False

    @property
    def revision(self) -> int:
        """The newest revision; everything up to it has been delivered."""
        return self._hub.revision

    async def start(self) -> None:
        self._expiry.arm()

    async def close(self) -> None:
        self._closed = True
        self._expiry.close()
        self._hub.close()

    def fork(self, clock: Clock | None = None) -> MemoryStorage:
        """An independent store with the same contents, history and revision, without the watches.
        Neither sees the other's later writes. Call ``start`` on it."""
        twin = MemoryStorage(clock or self._clock, max_history=self._max_history)
        twin._live = self._live.copy()
        twin._index = self._index.copy()
        twin._history = self._history.copy()
        twin._compacted = self._compacted
        twin._hub = WatchHub(self._hub.revision)
        twin._expiry.load(self._expiry.entries())
        return twin

    async def get(self, key: str) -> KeyValue | None:
        return self._live.get(key)

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        current = self._hub.revision
        if revision > current:
            raise FutureRevision(revision, current)
        if revision and revision < self._compacted:
            raise Compacted(revision, self._compacted)
        if revision and revision < current:
            past = self._as_of(prefix, revision)
            keys, low, high = KeyIndex(past).between(prefix, start)
            live, count = past, len(past)
        else:
            keys, low, high = self._index.between(prefix, start)
            live, count = self._live, self._index.count(prefix) if start else high - low
        end = min(high, low + limit) if limit else high
        found = [live[key] for key in keys[low:end]]
        return RangeResult(found, revision or current, end < high, count)

    def _as_of(self, prefix: str, revision: int) -> dict[str, KeyValue]:
        """The state under ``prefix`` at ``revision``: the live one with later events undone."""
        keys, low, high = self._index.between(prefix)
        state = {key: self._live[key] for key in keys[low:high]}
        for event in reversed(self._history[self._position(revision + 1) :]):
            if not event.key.startswith(prefix):
                continue
            if event.prev_value is None:
                state.pop(event.key, None)
            else:
                state[event.key] = KeyValue(event.key, event.prev_value, event.prev_revision)
        return state

    def _position(self, revision: int) -> int:
        return bisect_left(self._history, revision, key=lambda event: event.revision)

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        current = self._live.get(key)
        if current is not None:
            raise KeyExists(current)
        self._check_open()
        self._index.add(key)
        return self._put(key, value, None, ttl)

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        current = self._live.get(key)
        if current is None or current.mod_revision != expected:
            raise RevisionConflict(current)
        return self._put(key, value, current, ttl)

    async def delete(self, key: str, *, expected: int) -> int:
        current = self._live.get(key)
        if current is None or current.mod_revision != expected:
            raise RevisionConflict(current)
        return self._delete(current)

    def _put(self, key: str, value: bytes, previous: KeyValue | None, ttl: int) -> int:
        self._check_open()
        value = compact(value)
        revision = self._hub.revision + 1
        self._live[key] = KeyValue(key, value, revision)
        if ttl:
            self._expiry.add(self._clock.time() + ttl, key, revision)
        if previous is None:
            self._commit(StorageEvent("PUT", key, value, revision, None, 0))
        else:
            _, old, old_revision = previous
            self._commit(StorageEvent("PUT", key, value, revision, old, old_revision))
        return revision

    def _delete(self, current: KeyValue) -> int:
        self._check_open()
        key, value, old_revision = current
        revision = self._hub.revision + 1
        del self._live[key]
        self._index.remove(key)
        self._commit(StorageEvent("DELETE", key, value, revision, value, old_revision))
        return revision

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    def _commit(self, event: StorageEvent) -> None:
        self._history.append(event)
        if len(self._history) > self._max_history:
            self._compact(self._history[len(self._history) // 2].revision)
        self._hub.dispatch([event])

    def _expire(self, due: list[Due]) -> None:
        for _, key, revision in due:
            current = self._live.get(key)
            if current is not None and current.mod_revision == revision and not self._closed:
                self._delete(current)

    async def current_revision(self) -> int:
        return self._hub.revision

    def reached(self, revision: int) -> asyncio.Future[None]:
        """Done when ``revision`` has been written and delivered."""
        return self._hub.reached(revision)

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> Watch:
        """History is delivered before this returns; later events as they are written."""
        watch = self._hub.add(prefix, start_revision, sink)
        if start_revision < self._compacted:
            error = Compacted(start_revision, self._compacted)
            asyncio.get_running_loop().call_soon(watch.close, error)
            watch.next_revision = 1 << 63
        elif start_revision <= self._hub.revision:
            missed = self._history[self._position(start_revision) :]
            watch.next_revision = self._hub.revision + 1
            events = [event for event in missed if event.key.startswith(prefix)]
            if events:
                sink.on_events(events, self._hub.revision)
        return watch

    @property
    def compacted_revision(self) -> int:
        return self._compacted

    async def compact(self, revision: int) -> None:
        if revision > self._hub.revision:
            raise FutureRevision(revision, self._hub.revision)
        if revision > self._compacted:
            self._compact(revision)

    def _compact(self, revision: int) -> None:
        del self._history[: self._position(revision)]
        self._compacted = revision
