"""State of the watch cache without I/O: objects by key, a window of recent events.

The cacher feeds it storage events and hands the resulting :class:`CacheEvent` to watchers.
Every decision about history (what a watch may resume from, what an old revision looked like,
when a bookmark is due) is made here.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import orjson

from pilothouse.apiserver.storage.errors import Corrupt, Untransformable
from pilothouse.apiserver.storage.key_index import KeyIndex, prefix_end
from pilothouse.apiserver.storage.versioner import restamp, splice, with_revision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.storage.cacher.interfaces import Predicate
    from pilothouse.apiserver.storage.interfaces import KeyValue, StorageEvent

ENCRYPTED = b"k8s:enc:"
"""What values begin with that a server with an encryption configuration wrote."""
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
Page = tuple[list["Entry"], bool, int]

# Upstream's defaultLowerBoundCapacity, defaultUpperBoundCapacity and eventFreshDuration.
LOWER_BOUND, UPPER_BOUND, FRESH_SECONDS = 100, 102_400, 75.0
MAX_WINDOW_BYTES = 64 << 20
"""Fresh events are also let go beyond this, so that a storm of large objects cannot eat memory."""
BOOKMARK_SECONDS = 60.0
BEFORE_DEADLINE_SECONDS = 2.0


class Entry:
    """A CacheEntry. ``obj``, ``memo`` and ``labels`` come into being when they are first read."""

    __slots__ = ("_base", "data", "key", "labels", "memo", "name", "namespace", "obj", "revision")

    obj: Obj
    memo: dict[Any, Any]
    labels: dict[str, str] | None

    def __init__(
        self,
        key: str,
        namespace: str,
        name: str,
        revision: int,
        data: bytes,
        base: Entry | Obj | None = None,
    ) -> None:
        self.key = key
        self.namespace = namespace
        self.name = name
        self.revision = revision
        self.data = data
        self._base = base
        """Where ``obj`` can come from without decoding, its resourceVersion aside."""

    def __getattr__(self, attribute: str) -> Any:
        # Only reached while the slot is empty.
        if attribute == "obj":
            self.obj = obj = self._decode()
            return obj
        if attribute == "memo":
            memo: dict[Any, Any] = {}
            self.memo = memo
            return memo
        if attribute == "labels":
            self.labels = labels = _labels_of(self.peek())
            return labels
        raise AttributeError(attribute)

    def peek(self) -> Obj:
        """The object for a look at something other than its resourceVersion, which may be
        missing; unlike ``obj`` it keeps nothing that was not there before."""
        base = self._base
        if isinstance(base, Entry):
            return base.peek()
        if base is not None:
            return base
        try:
            obj: Obj = _OBJ.__get__(self)
        except AttributeError:
            obj = orjson.loads(self.data)
        return obj

    def _decode(self) -> Obj:
        base, self._base = self._base, None
        if isinstance(base, Entry):
            return with_revision(base.obj, self.revision)
        if base is not None:
            return with_revision(base, self.revision)
        obj: Obj = orjson.loads(self.data)
        return obj

    def forget_base(self) -> None:
        """Lets the writer's object go if nobody has read ``obj``: bytes are a fifth of its size."""
        base, self._base = self._base, None
        if base is not None:
            # Every list with a label selector asks for these.
            self.labels = _labels_of(base.peek() if isinstance(base, Entry) else base)

    def superseded(self) -> None:
        """There is a newer version: the window of events keeps the bytes of this one, and would
        keep ten times as much if the decoded object stayed."""
        self.forget_base()
        with suppress(AttributeError):
            del self.memo
        try:
            obj = _OBJ.__get__(self)
        except AttributeError:
            return
        self.labels = _labels_of(obj)
        del self.obj

    def at(self, revision: int) -> Entry:
        """This state with another resourceVersion, as a DELETED event shows it."""
        data = restamp(self.data, self.revision, revision)
        return Entry(self.key, self.namespace, self.name, revision, data, self)

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.revision})"


_OBJ: Any = Entry.__dict__["obj"]


def _labels_of(obj: Obj) -> dict[str, str] | None:
    """``metadata.labels``, one dict for all objects with the same ones: replicas have them, and
    a list with a selector that looks at thousands stays within the processor's caches."""
    labels: dict[str, str] | None = (obj.get("metadata") or {}).get("labels")
    if not labels:
        return None
    try:
        return _shared_labels(tuple(labels.items()))
    except (AttributeError, TypeError):  # stored by something that did not look at the type
        return labels


@lru_cache(maxsize=4096)
def _shared_labels(items: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return dict(items)


class Event:
    """A CacheEvent. One instance serves all watchers that see the same change."""

    __slots__ = (
        "_added",
        "_deleted",
        "entry",
        "initial_events_end",
        "memo",
        "prev",
        "revision",
        "type",
    )

    entry: Entry
    memo: dict[Any, Any]

    def __init__(
        self,
        type_: EventType,
        entry: Entry | None,
        prev: Entry | None,
        revision: int,
        initial_events_end: bool = False,
    ) -> None:
        self.type: EventType = type_
        if entry is not None:
            self.entry = entry
        self.prev = prev
        self.revision = revision
        self.initial_events_end = initial_events_end
        self._added: Event | None = None
        self._deleted: Event | None = None

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "memo":
            memo: dict[Any, Any] = {}
            self.memo = memo
            return memo
        raise AttributeError(attribute)

    def transition(self, predicate: Predicate) -> Event | None:
        """This change as a watcher with that selector sees it; None: not at all."""
        prev = self.prev
        before = prev is not None and predicate(prev)
        after = self.type != "DELETED" and predicate(self.entry)
        if after:
            return self if before or prev is None else self._as_added()
        if not before:
            return None
        return self if self.type == "DELETED" else self._as_deleted()

    def _as_added(self) -> Event:
        if self._added is None:
            self._added = Event("ADDED", self.entry, None, self.revision)
        return self._added

    def _as_deleted(self) -> Event:
        if self._deleted is None:
            assert self.prev is not None
            last = self.prev.at(self.revision)
            self._deleted = Event("DELETED", last, self.prev, self.revision)
        return self._deleted

    def __repr__(self) -> str:
        shown = "" if self.type == "BOOKMARK" else self.entry.key
        return f"Event({self.type}, {shown!r}, {self.revision})"


class WindowExpired(Exception):
    """The wanted revision is older than the window of events."""

    def __init__(self, requested: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {requested} ({oldest})")


class WatchCache:
    """Objects under one prefix and the events since ``window_start``."""

    def __init__(self, prefix: str, decode: Callable[[bytes], bytes] | None = None) -> None:
        self.prefix = prefix
        self._decode = decode
        self.entries: dict[str, Entry] = {}
        self.window_start = 0
        """All events after this revision are in the window."""
        self.last_change = 0
        """Revision of the newest event, or of the list that the cache began with."""
        self._index = KeyIndex()
        self._events: list[Event] = []
        self._times: list[float] = []
        self._head = 0
        self._bytes = 0

    def replace(self, kvs: Iterable[KeyValue], revision: int) -> None:
        """Begins anew with a list taken at ``revision``."""
        self.entries = {kv.key: self.entry(kv.key, kv.value, kv.mod_revision) for kv in kvs}
        self._index = KeyIndex(self.entries)
        self._events, self._times, self._head, self._bytes = [], [], 0, 0
        self.window_start = self.last_change = revision

    def entry(self, key: str, value: bytes, revision: int, base: Obj | None = None) -> Entry:
        """A stored value as an entry; keys end in ``[<namespace>/]<name>``."""
        namespace, _, name = key[len(self.prefix) :].rpartition("/")
        try:
            if self._decode is not None and base is None:
                value = self._decode(value)
            data = splice(value, revision, encoded=base is not None)
        except ValueError as error:
            if value.startswith(ENCRYPTED):
                raise Untransformable(
                    f'unable to transform key "{key}": identity transformer tried to read '
                    "encrypted data"
                ) from error
            raise Corrupt(f"the store's value of {key} is no JSON object: {error}") from error
        return Entry(key, sys.intern(namespace), name, revision, data, base)

    def apply(self, change: StorageEvent, now: float, base: Obj | None = None) -> Event:
        """Takes in one change and returns it as an event. ``base``: the new object, decoded."""
        key, revision = change.key, change.revision
        prev = self.entries.get(key)
        if change.type == "PUT":
            entry = self.entry(key, change.value, revision, base)
            self.entries[key] = entry
            if prev is None:
                self._index.add(key)
            event = Event("MODIFIED" if prev else "ADDED", entry, prev, revision)
        else:
            if prev is None:
                prev = self.entry(key, change.value, change.prev_revision)
            else:
                del self.entries[key]
                self._index.remove(key)
            event = Event("DELETED", prev.at(revision), prev, revision)
        self.last_change = revision
        self._remember(event, now)
        return event

    def _remember(self, event: Event, now: float) -> None:
        """Keeps at least LOWER_BOUND events and all fresh ones, within the upper bounds."""
        self._events.append(event)
        self._times.append(now)
        self._bytes += len(event.entry.data)
        held = len(self._events) - self._head
        stale = now - FRESH_SECONDS
        while held > LOWER_BOUND and (
            self._times[self._head] < stale or held > UPPER_BOUND or self._bytes > MAX_WINDOW_BYTES
        ):
            oldest = self._events[self._head]
            self.window_start = oldest.revision
            self._bytes -= len(oldest.entry.data)
            self._head += 1
            held -= 1
        if self._head > 256 and self._head > held:
            del self._events[: self._head]
            del self._times[: self._head]
            self._head = 0

    def events_since(self, revision: int) -> list[Event]:
        """Events after ``revision``. :raises WindowExpired: some of them are gone."""
        if revision < self.window_start:
            raise WindowExpired(revision, self.window_start)
        if revision >= self.last_change:
            return []
        position = bisect_right(self._events, revision, self._head, key=_revision_of)
        return self._events[position:]

    def keys(self, prefix: str, start: str = "") -> tuple[list[str], int, int]:
        return self._index.between(prefix, start)

    def list(
        self, prefix: str, *, start: str = "", limit: int = 0, predicate: Predicate | None = None
    ) -> Page:
        """As ``Cacher.list``."""
        keys, low, high = self._index.between(prefix, start)
        entries = self.entries
        if predicate is None:
            end = min(high, low + limit) if limit else high
            return [entries[key] for key in keys[low:end]], end < high, high - end
        select = getattr(predicate, "select", None)
        if select is not None and not limit:
            return select(map(entries.__getitem__, keys[low:high])), False, 0
        return _page((entries[keys[i]] for i in range(low, high)), limit, predicate, high - low)

    def count(self, prefix: str, start: str) -> int:
        _, low, high = self._index.between(prefix, start)
        return high - low

    def list_at(
        self,
        prefix: str,
        revision: int,
        *,
        start: str = "",
        limit: int = 0,
        predicate: Predicate | None = None,
    ) -> Page:
        """The same at an old revision, by undoing the events since.

        :raises WindowExpired: the window doesn't reach back that far.
        """
        later = self.events_since(revision)
        if not later:
            return self.list(prefix, start=start, limit=limit, predicate=predicate)
        undone = {event.entry.key: event.prev for event in reversed(later)}
        keys, low, high = self._index.between(prefix, start)
        least, end = max(prefix, start), prefix_end(prefix)
        inside = [key for key in undone if key >= least and (not end or key < end)]
        if not inside:
            return self.list(prefix, start=start, limit=limit, predicate=predicate)
        count = high - low
        for key in inside:
            count += (undone[key] is not None) - (key in self.entries)
        old = self._merged(keys[low:high], inside, undone)
        return _page(old, limit, predicate, count)

    def _merged(
        self, live: Sequence[str], inside: Iterable[str], undone: dict[str, Entry | None]
    ) -> Iterator[Entry]:
        revived = [key for key in inside if undone[key] is not None and key not in self.entries]
        for key in sorted([*live, *revived]) if revived else live:
            entry = undone[key] if key in undone else self.entries[key]
            if entry is not None:
                yield entry


def _page(entries: Iterator[Entry], limit: int, predicate: Predicate | None, count: int) -> Page:
    """``count`` is of all ``entries``; what is left is exact only without a predicate."""
    found: list[Entry] = []
    for seen, entry in enumerate(entries):
        if predicate is not None and not predicate(entry):
            continue
        if limit and len(found) == limit:
            return found, True, count - seen
        found.append(entry)
    return found, False, 0


def _revision_of(event: Event) -> int:
    return event.revision


def next_bookmark_time(now: float, deadline: float | None) -> float | None:
    """When the watch that ends at ``deadline`` is due its next bookmark; None: never again.

    About once a minute, and shortly before the end, so that the client's next watch starts as
    near to now as possible (upstream's nextBookmarkTime).
    """
    due = now + BOOKMARK_SECONDS
    if deadline is not None:
        due = min(due, deadline - BEFORE_DEADLINE_SECONDS)
    return due if due > now else None


def changes_between(old: dict[str, Entry], new: dict[str, Entry], revision: int) -> list[Event]:
    """The events that lead from one list to another, for subscribers that outlive a gap."""
    events: list[Event] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if after is None:
            assert before is not None
            events.append(Event("DELETED", before.at(revision), before, revision))
        elif before is None:
            events.append(Event("ADDED", after, None, after.revision))
        elif before.revision != after.revision:
            events.append(Event("MODIFIED", after, before, after.revision))
    return events
