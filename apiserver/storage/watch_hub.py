"""Who watches which prefix of a store, and who waits for a revision.

Watches are indexed by prefix: an event is looked up under each of its key's path prefixes and
the key itself, so that it costs nothing for watches of other resources.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.interfaces import StorageEvent, WatchSink


class Watch:
    """One registered sink; also the handle that its owner holds."""

    __slots__ = ("_hub", "closed", "next_revision", "prefix", "sink")

    def __init__(self, hub: WatchHub, prefix: str, next_revision: int, sink: WatchSink) -> None:
        self._hub = hub
        self.prefix = prefix
        self.next_revision = next_revision
        self.sink = sink
        self.closed = False

    def cancel(self) -> None:
        self.close(None)

    def close(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._hub.remove(self)
            self.sink.on_closed(error)


class WatchHub:
    """Delivers committed events, in order of revision, on the event loop."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        """Everything up to here has been delivered."""
        self._by_prefix: dict[str, list[Watch]] = {}
        self._odd: list[Watch] = []
        """Watches whose prefix is no path prefix and maybe no whole key."""
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def add(self, prefix: str, next_revision: int, sink: WatchSink) -> Watch:
        watch = Watch(self, prefix, next_revision, sink)
        if prefix.endswith("/"):
            self._by_prefix.setdefault(prefix, []).append(watch)
        else:
            self._odd.append(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        if not watch.prefix.endswith("/"):
            if watch in self._odd:
                self._odd.remove(watch)
            return
        watches = self._by_prefix.get(watch.prefix, [])
        if watch in watches:
            watches.remove(watch)
            if not watches:
                del self._by_prefix[watch.prefix]

    def dispatch(self, events: list[StorageEvent]) -> None:
        """``events`` are newer than all before, sorted by revision, and not empty."""
        self.revision = revision = events[-1].revision
        if len(events) == 1:
            for watch in self._interested(events[0].key):
                if not watch.closed and watch.next_revision <= revision:
                    watch.next_revision = revision + 1
                    watch.sink.on_events(events, revision)
        else:
            self._dispatch_batch(events)
        if self._waiters:
            self._wake(revision)

    def _dispatch_batch(self, events: list[StorageEvent]) -> None:
        batches: dict[Watch, list[StorageEvent]] = {}
        for event in events:
            for watch in self._interested(event.key):
                if watch.next_revision <= event.revision:
                    batches.setdefault(watch, []).append(event)
        for watch, batch in batches.items():
            if not watch.closed:
                watch.next_revision = batch[-1].revision + 1
                watch.sink.on_events(batch, batch[-1].revision)

    def announce(self) -> None:
        """Tells all sinks, also those without events, that everything up to ``revision`` has been
        delivered (stores whose watch is not synchronous)."""
        revision = self.revision
        for watches in [*self._by_prefix.values(), self._odd]:
            for watch in list(watches):
                if watch.next_revision <= revision:
                    watch.next_revision = revision + 1
                    watch.sink.on_events([], revision)

    def _interested(self, key: str) -> list[Watch]:
        found: list[Watch] = []
        by_prefix = self._by_prefix
        if by_prefix:
            at = key.find("/")
            while at >= 0:
                watches = by_prefix.get(key[: at + 1])
                if watches:
                    found += watches
                at = key.find("/", at + 1)
        if self._odd:
            found += [watch for watch in self._odd if key.startswith(watch.prefix)]
        return found

    def reached(self, revision: int) -> asyncio.Future[None]:
        """Done when ``revision`` has been delivered."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if revision <= self.revision:
            future.set_result(None)
        else:
            self._waiters = [w for w in self._waiters if not w[1].done()]
            self._waiters.append((revision, future))
        return future

    def _wake(self, revision: int) -> None:
        still = []
        for waiter in self._waiters:
            if waiter[0] > revision:
                still.append(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)
        self._waiters = still

    def close(self, error: Exception | None = None) -> None:
        self.close_before(1 << 64, error)

    def close_before(self, revision: int, error: Exception | None) -> None:
        """Ends the watches whose next event may be older than ``revision``."""
        for watches in [*self._by_prefix.values(), self._odd]:
            for watch in list(watches):
                if watch.next_revision < revision:
                    watch.close(error)
