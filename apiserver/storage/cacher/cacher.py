"""The shell of the watch cache: feeds it from a store, serves readers and watchers.

A Cacher is idle until the first reader calls ``ensure_ready``; then it lists its prefix at one
revision, follows it with one storage watch and never reads the store again, but for lists at
revisions older than its window. When the watch loses its place (a compaction went past it), all
watchers are ended and the list is taken anew.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, cast

from pilothouse.apimachinery.clock import upkeep
from pilothouse.apimachinery.errors import (
    new_resource_expired,
    new_too_large_resource_version,
)
from pilothouse.apiserver.storage.cacher.cache_watcher import CacheWatcher
from pilothouse.apiserver.storage.cacher.counts import Counts
from pilothouse.apiserver.storage.cacher.watch_cache import (
    Entry,
    Event,
    Page,
    WatchCache,
    WindowExpired,
    changes_between,
    next_bookmark_time,
)
from pilothouse.apiserver.storage.cacher.watcher_index import Indexers, WatcherIndex
from pilothouse.apiserver.storage.continue_token import EXPIRED_LIST, expired_continue
from pilothouse.apiserver.storage.errors import (
    Compacted,
    Corrupt,
    FutureRevision,
    StorageError,
    Untransformable,
)
from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.clock import Clock, TimerHandle
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.storage.cacher.interfaces import Predicate
    from pilothouse.apiserver.storage.interfaces import (
        KeyValue,
        Storage,
        StorageEvent,
        WatchHandle,
    )

log = logging.getLogger(__name__)

_LIST_PAGE = 500
_RELIST_SECONDS = 1.0
_MAX_OFFERS = 128


class _EmbeddedStorage(Protocol):
    """What stores with a synchronous watch have on top of Storage."""

    @property
    def revision(self) -> int: ...

    def reached(self, revision: int) -> asyncio.Future[None]: ...


class Cacher:
    """See ``cacher/interfaces.py``. ``prefix`` ends in "/"; what follows it in a key is
    ``[<namespace>/]<name>``. ``indexers`` name the fields that ``watch(trigger=...)`` may use.
    ``decode`` brings stored values into the form in which they are served (custom resources);
    what was offered with ``remember`` is in that form already."""

    def __init__(
        self,
        storage: Storage,
        prefix: str,
        *,
        clock: Clock,
        indexers: Indexers | None = None,
        decode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.prefix = prefix
        self._storage = storage
        self._embedded = cast("_EmbeddedStorage", storage) if storage.synchronous_watch else None
        self._clock = clock
        self._cache = WatchCache(prefix, decode)
        self._watchers = WatcherIndex(prefix, indexers)
        self._subscribers: list[Callable[[Event], None]] = []
        self._offers: dict[str, tuple[bytes, Obj]] = {}
        self._recent: deque[Entry] = deque()
        self._seen = 0
        self.counts = Counts()
        self._handle: WatchHandle | None = None
        self._loading: asyncio.Task[StorageError | None] | None = None
        self._tasks: TaskOwner | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._bookmarks: list[tuple[float, int, CacheWatcher]] = []
        self._bookmark_timer: TimerHandle | None = None
        self._sequence = 0
        self._ready = False
        self._closed = False

    @property
    def revision(self) -> int:
        if self._embedded is not None and self._ready:
            return self._embedded.revision
        return self._seen

    @property
    def ready(self) -> bool:
        return self._ready

    def __len__(self) -> int:
        """How many objects the cache holds."""
        return len(self._cache.entries)

    # --- starting and following the store -------------------------------------------------

    async def ensure_ready(self) -> None:
        """:raises StorageError: the store could not be read."""
        if self._ready:
            return
        if self._closed:
            raise StorageError(f"the watch cache of {self.prefix} is closed")
        if self._loading is None:
            if self._tasks is None:
                self._tasks = TaskOwner(f"cacher{self.prefix}")
            self._loading = self._tasks.start(self._load_reporting(), "load")
        # Readers that give up must not take the load away from the others.
        error = await asyncio.shield(self._loading)
        if error is not None:
            raise error

    async def _load_reporting(self) -> StorageError | None:
        try:
            await self._load()
        except StorageError as error:
            return error
        finally:
            self._loading = None
        return None

    async def _load(self) -> None:
        begin = perf_counter()
        kvs, revision = await self._list_all()
        old = self._cache.entries
        self._cache.replace(kvs, revision)
        self._seen = revision
        self._ready = True
        if old and self._subscribers:
            for event in changes_between(old, self._cache.entries, revision):
                self._tell(event)
        self._handle = self._storage.watch(self.prefix, revision + 1, self)
        self._wake_waiters()
        self.counts.load_seconds.append(perf_counter() - begin)

    async def _list_all(self) -> tuple[list[KeyValue], int]:
        """All keys at one revision; in pages where a page is a message from another process."""
        limit = 0 if self._embedded is not None else _LIST_PAGE
        while True:
            page = await self._storage.range(self.prefix, limit=limit)
            kvs = page.kvs
            try:
                while page.more:
                    start = kvs[-1].key + "\0"
                    page = await self._storage.range(
                        self.prefix, start=start, limit=limit, revision=page.revision
                    )
                    kvs += page.kvs
            except Compacted:
                continue
            return kvs, page.revision

    def on_events(self, events: list[StorageEvent], revision: int) -> None:
        """From the storage watch."""
        counts = self.counts
        if events:
            now = self._clock.monotonic()
            counts.received += len(events)
        else:
            now = 0.0
            counts.bookmarks += 1
        for change in events:
            if change.revision <= self._seen:
                continue
            self._seen = change.revision
            base = self._offered(change) if self._offers else None
            try:
                event = self._cache.apply(change, now, base)
            except (Corrupt, Untransformable) as error:
                log.error("left out of the watch cache: %s", error)
                continue
            if base is not None:
                self._keep_base_of(event.entry)
            self._tell(event)
            self._watchers.dispatch(event)
            counts.dispatched += 1
            if event.prev is not None:
                event.prev.superseded()
        if revision > self._seen:
            self._seen = revision
        if self._waiters:
            self._wake_waiters()

    def on_closed(self, error: Exception | None) -> None:
        """The storage watch has ended; with an error, everything starts over."""
        self._handle = None
        self._ready = False
        for watcher in self._watchers:
            watcher.end(None)
        if error is None or self._closed:
            return
        log.warning("watch cache of %s lists again: %s", self.prefix, error)
        if self._subscribers and self._tasks is not None:
            self._tasks.start(self._relist(), "relist")

    async def _relist(self) -> None:
        while not self._ready and not self._closed:
            try:
                await self.ensure_ready()
            except StorageError as error:
                log.warning("watch cache of %s: %s", self.prefix, error)
                await self._clock.sleep(_RELIST_SECONDS)

    def _tell(self, event: Event) -> None:
        for handler in self._subscribers:
            try:
                handler(event)
            except Exception:
                # The write has happened and the other readers must hear of it.
                log.exception("a subscriber of %s failed on %s", self.prefix, event)

    def subscribe(self, handler: Callable[[Event], None]) -> None:
        self._subscribers.append(handler)

    def unsubscribe(self, handler: Callable[[Event], None]) -> None:
        if handler in self._subscribers:
            self._subscribers.remove(handler)

    # --- the writer's side ------------------------------------------------------------------

    def remember(self, key: str, value: bytes, obj: Obj) -> None:
        """Call before writing ``value``: ``obj`` is ``value`` decoded, so nobody has to decode
        it again. ``obj`` becomes shared: don't change it afterwards."""
        if len(self._offers) >= _MAX_OFFERS:
            self._offers.clear()
        self._offers[key] = (value, obj)

    def _offered(self, change: StorageEvent) -> Obj | None:
        offer = self._offers.get(change.key)
        if offer is None or change.type != "PUT" or offer[0] != change.value:
            return None
        del self._offers[change.key]
        return offer[1]

    def _keep_base_of(self, entry: Entry) -> None:
        """The next readers find the writer's object; what nobody read soon is let go."""
        self._recent.append(entry)
        if len(self._recent) > _MAX_OFFERS:
            self._recent.popleft().forget_base()

    def written(self, key: str, value: bytes, revision: int) -> Entry:
        """The entry of a write that returned ``revision``: the cached one if it is there."""
        entry = self._cache.entries.get(key)
        if entry is not None and entry.revision == revision:
            return entry
        offer = self._offers.get(key)
        base = offer[1] if offer is not None and offer[0] == value else None
        return self._cache.entry(key, value, revision, base)

    def entry_of(self, kv: KeyValue) -> Entry:
        """A value read from the store as an entry (``get`` and conflicts of the store)."""
        return self.written(kv.key, kv.value, kv.mod_revision)

    # --- readers ---------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        return self._cache.entries.get(key)

    async def wait_until_fresh(self, revision: int | None = None, timeout: float = 3.0) -> None:
        if not self._ready:
            await self.ensure_ready()
        if revision is None:
            self.counts.consistent_reads += 1
            if self._embedded is not None and self._ready:
                return
            revision = await self._storage.current_revision()
            if not self._ready:  # the watch has ended meanwhile
                await self.ensure_ready()
        if self.revision >= revision and self._ready:
            return
        await self._wait_for(revision, timeout)

    async def _wait_for(self, revision: int, timeout: float) -> None:
        if self._embedded is not None and self._ready:
            future = self._embedded.reached(revision)
        else:
            future = asyncio.get_running_loop().create_future()
            self._waiters.append((revision, future))
        timer = self._clock.call_later(timeout, future.cancel)
        begin = perf_counter()
        try:
            await asyncio.wait([future])
        finally:
            self.counts.read_waits.append(perf_counter() - begin)
            timer.cancel()
            future.cancel()
        if self.revision < revision:
            raise new_too_large_resource_version(revision, self.revision, 1)

    def _wake_waiters(self) -> None:
        still = []
        for revision, future in self._waiters:
            if future.done():
                continue
            if revision > self._seen:
                still.append((revision, future))
            else:
                future.set_result(None)
        self._waiters = still

    def list(
        self, prefix: str, *, start: str = "", limit: int = 0, predicate: Predicate | None = None
    ) -> Page:
        return self._cache.list(prefix, start=start, limit=limit, predicate=predicate)

    def count(self, prefix: str, start: str = "") -> int:
        """How many objects are under ``prefix`` from ``start`` on."""
        return self._cache.count(prefix, start)

    async def list_exact(
        self,
        prefix: str,
        revision: int,
        *,
        start: str = "",
        limit: int = 0,
        predicate: Predicate | None = None,
    ) -> Page:
        # What the store has forgotten is expired for everybody, though the window may know it.
        kept = revision >= self._storage.compacted_revision
        if kept and self._ready and revision <= self.revision:
            try:
                return self._cache.list_at(
                    prefix, revision, start=start, limit=limit, predicate=predicate
                )
            except WindowExpired:
                pass
        try:
            return await self._list_stored(prefix, revision, start, limit, predicate)
        except Compacted as error:
            if start:
                raise expired_continue(start, prefix) from error
            raise new_resource_expired(EXPIRED_LIST) from error
        except FutureRevision as error:
            raise new_too_large_resource_version(revision, error.current, 1) from error

    async def _list_stored(
        self, prefix: str, revision: int, start: str, limit: int, predicate: Predicate | None
    ) -> Page:
        found: list[Entry] = []
        page_size = limit + 1 if limit and predicate is None else _LIST_PAGE
        left: int | None = None
        while True:
            page = await self._storage.range(
                prefix, start=start, limit=page_size, revision=revision
            )
            if left is None:
                left = await self._count_from(prefix, start, revision, page.count)
            for kv in page.kvs:
                entry = self._cache.entry(kv.key, kv.value, kv.mod_revision)
                if predicate is None or predicate(entry):
                    if limit and len(found) == limit:
                        return found, True, max(left, 1)
                    found.append(entry)
                left -= 1
            if not page.more:
                return found, False, 0
            start = page.kvs[-1].key + "\0"

    async def _count_from(self, prefix: str, start: str, revision: int, count: int) -> int:
        """``count`` is of the whole prefix; what lies before ``start`` is not counted."""
        if not start or start <= prefix:
            return count
        before = 0
        at = ""
        while True:
            page = await self._storage.range(prefix, start=at, limit=_LIST_PAGE, revision=revision)
            inside = [kv for kv in page.kvs if kv.key < start]
            before += len(inside)
            if len(inside) < len(page.kvs) or not page.more:
                return count - before
            at = page.kvs[-1].key + "\0"

    # --- watchers --------------------------------------------------------------------------

    def watch(
        self,
        prefix: str,
        *,
        from_revision: int | None = None,
        initial: bool = False,
        predicate: Predicate | None = None,
        bookmarks: bool = False,
        buffer: int = 1000,
        deadline: float | None = None,
        trigger: tuple[str, str] | None = None,
    ) -> CacheWatcher:
        """As in the interface. ``deadline`` (``clock.monotonic``) is when the caller will end the
        watch: a bookmark comes shortly before. ``trigger`` is a (field, value) that ``predicate``
        requires; objects that neither have nor had it are never looked at."""
        if trigger is not None and not self._watchers.supports(trigger[0]):
            trigger = None
        watcher = CacheWatcher(
            predicate=predicate,
            limit=buffer,
            floor=from_revision or 0,
            forget=self._watchers.remove,
            deadline=deadline,
            trigger=trigger,
        )
        if initial or not from_revision:
            entries, _, _ = self._cache.list(prefix, predicate=predicate)
            end = Event("BOOKMARK", None, None, self.revision, True) if initial else None
            watcher.begin(entries, end)
            self.counts.init_events += len(entries)
            watcher.floor = 0
        else:
            self._replay(watcher, prefix, from_revision)
        self._watchers.add(prefix, watcher)
        if bookmarks:
            self._schedule_bookmark(watcher)
        return watcher

    def _replay(self, watcher: CacheWatcher, prefix: str, from_revision: int) -> None:
        try:
            missed = self._cache.events_since(from_revision)
        except WindowExpired as error:
            raise new_resource_expired(str(error)) from error
        watcher.replay([event for event in missed if event.entry.key.startswith(prefix)])

    def _schedule_bookmark(self, watcher: CacheWatcher) -> None:
        due = next_bookmark_time(self._clock.monotonic(), watcher.deadline)
        if due is None:
            return
        self._sequence += 1
        heapq.heappush(self._bookmarks, (due, self._sequence, watcher))
        if self._bookmarks[0][2] is watcher:
            self._arm_bookmarks()

    def _arm_bookmarks(self) -> None:
        if self._bookmark_timer is not None:
            self._bookmark_timer.cancel()
            self._bookmark_timer = None
        if self._bookmarks:
            delay = self._bookmarks[0][0] - self._clock.monotonic()
            timer = upkeep(self._clock).call_later(max(0.0, delay), self._send_bookmarks)
            self._bookmark_timer = timer

    def _send_bookmarks(self) -> None:
        self._bookmark_timer = None
        now = self._clock.monotonic()
        event = Event("BOOKMARK", None, None, self.revision)
        due: list[CacheWatcher] = []
        while self._bookmarks and self._bookmarks[0][0] <= now:
            due.append(heapq.heappop(self._bookmarks)[2])
        for watcher in due:
            if not watcher.closed:
                watcher.offer_bookmark(event)
                self._schedule_bookmark(watcher)
        if self._bookmark_timer is None:
            self._arm_bookmarks()

    async def close(self) -> None:
        self._closed = True
        if self._bookmark_timer is not None:
            self._bookmark_timer.cancel()
        if self._tasks is not None:
            await self._tasks.close()
        for watcher in self._watchers:
            watcher.end(None)
        if self._handle is not None:
            self._handle.cancel()
        for _, future in self._waiters:
            future.cancel()
