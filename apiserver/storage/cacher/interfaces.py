"""The watch cache between a store and the handlers (apiserver pkg/storage/cacher).

One :class:`Cacher` per stored resource holds every object as encoded bytes with its
resourceVersion spliced in, plus a ring of recent events. GET, LIST and WATCH move these bytes;
``obj`` decodes once, on demand, and is shared by all in-process readers (read-only).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.storage.cacher.counts import Counts


class CacheEntry(Protocol):
    """One version of one object. Immutable."""

    key: str
    namespace: str
    name: str
    revision: int
    data: bytes
    """The wire JSON, ``metadata.resourceVersion`` included, no trailing newline."""
    memo: dict[Any, Any]
    """For whoever derives something from ``data`` (labels, fields, Table row, other version)."""

    labels: dict[str, str] | None
    """``metadata.labels``, read-only; costs no decoded object."""

    @property
    def obj(self) -> Obj:
        """Decoded ``data``, memoized. Shared: never change it."""
        ...

    def peek(self) -> Obj:
        """The object for a look at something other than its resourceVersion; not memoized."""
        ...


Predicate = Callable[[CacheEntry], bool]
"""May have a method ``select(entries) -> list`` that does the same for many at once."""


class CacheEvent(Protocol):
    """One change, as the whole cache saw it; ``transition`` fits it to a selector."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    entry: CacheEntry
    """After the change; for DELETED the last state with the revision of the delete.
    A BOOKMARK has none (``entry`` is unset)."""
    prev: CacheEntry | None
    revision: int
    memo: dict[Any, Any]
    """Encoded lines by representation: each is made once and shared by all watchers."""
    initial_events_end: bool
    """On the BOOKMARK that ends the initial events of a WatchList stream."""


class CacheWatcher(Protocol):
    """A bounded buffer of events for one watcher."""

    async def next_batch(self) -> list[CacheEvent]:
        """Waits for at least one event and returns all that are there, selector applied
        (an object that starts to match is ADDED, one that stops is DELETED with its previous
        state and the new revision). Empty list: the watch has ended (``error`` says why)."""
        ...

    def wake(self, callback: Callable[[], None] | None) -> None:
        """Instead of awaiting: ``callback`` runs once when the buffer becomes non-empty."""
        ...

    def idle(self, callback: Callable[[], None]) -> bool:
        """``wake`` if nothing is there and the watch goes on; else False."""
        ...

    def take(self) -> list[CacheEvent]:
        """What is in the buffer now, without waiting."""
        ...

    error: Exception | None
    """None for a clean end; a watcher that was too slow is just ended, as upstream does."""

    @property
    def pending(self) -> bool: ...

    def close(self) -> None: ...


class Cacher(Protocol):
    @property
    def counts(self) -> Counts:
        """What it has done so far."""
        ...

    @property
    def revision(self) -> int:
        """The cache holds every write of its resource up to here."""
        ...

    def remember(self, key: str, value: bytes, obj: Obj) -> None:
        """Call before writing ``value``: ``obj`` is ``value`` decoded, so that nobody has to
        decode it again. It becomes shared: don't change it afterwards."""
        ...

    def written(self, key: str, value: bytes, revision: int) -> CacheEntry:
        """The entry of a write that returned ``revision``: the cached one if it is there."""
        ...

    async def ensure_ready(self) -> None:
        """Starts on first use: reads the prefix and follows it. Cheap afterwards."""
        ...

    def get(self, key: str) -> CacheEntry | None:
        """What the cache holds now (never waits)."""
        ...

    async def wait_until_fresh(self, revision: int | None = None, timeout: float = 3.0) -> None:
        """Until the cache has seen ``revision`` (None: the store's newest now: a consistent
        read). Free for stores with a synchronous watch.

        :raises StatusError: 504 with cause ResourceVersionTooLarge after ``timeout``.
        """
        ...

    def list(
        self, prefix: str, *, start: str = "", limit: int = 0, predicate: Predicate | None = None
    ) -> tuple[Sequence[CacheEntry], bool, int]:
        """Entries under ``prefix`` by key from ``start`` on: (entries, more, remaining);
        ``remaining`` counts what is left after ``limit`` and is exact only without a predicate."""
        ...

    def count(self, prefix: str, start: str = "") -> int:
        """How many there are, whatever their contents."""
        ...

    async def list_exact(
        self,
        prefix: str,
        revision: int,
        *,
        start: str = "",
        limit: int = 0,
        predicate: Predicate | None = None,
    ) -> tuple[Sequence[CacheEntry], bool, int]:
        """The same at an old revision. :raises StatusError: 410 when it is compacted."""
        ...

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
        """Events after ``from_revision`` (exclusive). None or 0 with ``initial`` false: any
        state counts as start, so current objects come first as ADDED (upstream's "get state and
        start at any"). ``initial``: current objects as ADDED, then a BOOKMARK with
        ``initial_events_end``, then changes. ``bookmarks``: about once a minute and shortly before
        ``deadline`` (``clock.monotonic``). ``trigger``: a (field, value) that ``predicate``
        requires, of a field that the cacher indexes: other objects cost the watcher nothing.

        :raises StatusError: 410 Expired when ``from_revision`` fell out of the window.
        """
        ...

    def subscribe(self, handler: Callable[[CacheEvent], None]) -> None:
        """Calls ``handler`` synchronously for each later change, before any watcher sees it."""
        ...

    async def close(self) -> None: ...
