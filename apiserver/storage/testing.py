"""The contract of ``storage/interfaces.py`` as tests, run against every backend.

Each ``run_*`` takes a started store and a key prefix (ending in "/") that nobody else uses, and
raises AssertionError on a breach. ``CONTRACT`` lists them all; ``run_ttl`` needs a clock as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from pilothouse.apiserver.storage.errors import (
    Compacted,
    FutureRevision,
    KeyExists,
    RevisionConflict,
    StorageError,
)
from pilothouse.apiserver.storage.interfaces import KeyValue, RangeResult, StorageEvent

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.interfaces import Storage

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Advance = Callable[[float], Awaitable[None]]
"""Lets so many seconds pass on the store's clock."""

_PATIENCE = 10.0


class RecordingSink:
    """A WatchSink that keeps what it got; ``until`` waits for it."""

    def __init__(self) -> None:
        self.events: list[StorageEvent] = []
        self.revision = 0
        self.closed = False
        self.error: Exception | None = None
        self._changed = asyncio.Event()

    def on_events(self, events: list[StorageEvent], revision: int) -> None:
        assert not self.closed, "events after on_closed"
        assert revision >= self.revision, "a revision went back"
        last = self.events[-1].revision if self.events else 0
        for event in events:
            assert event.revision >= last, "events out of order"
            assert event.revision <= revision
            last = event.revision
        self.events += events
        self.revision = revision
        self._changed.set()

    def on_closed(self, error: Exception | None) -> None:
        assert not self.closed, "on_closed twice"
        self.closed, self.error = True, error
        self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not done():
                self._changed.clear()
                await self._changed.wait()

    async def until_revision(self, revision: int) -> None:
        await self.until(lambda: bool(self.events) and self.events[-1].revision >= revision)

    async def until_closed(self) -> None:
        await self.until(lambda: self.closed)

    def shape(self) -> list[tuple[str, str, bytes, bytes | None]]:
        return [(e.type, e.key, e.value, e.prev_value) for e in self.events]


async def expect(error: type[E], attempt: Awaitable[object]) -> E:
    """The error that ``attempt`` raises, which must be an ``error``."""
    try:
        result = await attempt
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} expected, got {result!r}")


def same(actual: T, expected: T) -> None:
    assert actual == expected, f"{actual!r} is not {expected!r}"


def _keys(result: RangeResult, prefix: str) -> list[str]:
    return [kv.key.removeprefix(prefix) for kv in result.kvs]


async def run_create_and_get(storage: Storage, prefix: str) -> None:
    key = prefix + "ns/a"
    same(await storage.get(key), None)
    before = await storage.current_revision()
    revision = await storage.create(key, b"one")
    assert revision > before
    same(await storage.get(key), KeyValue(key, b"one", revision))
    same(await storage.get(prefix + "ns"), None)
    assert await storage.current_revision() >= revision
    assert await storage.create(prefix + "ns/b", b"two") > revision


async def run_create_existing(storage: Storage, prefix: str) -> None:
    key = prefix + "a"
    revision = await storage.create(key, b"one")
    error = await expect(KeyExists, storage.create(key, b"two"))
    same(error.current, KeyValue(key, b"one", revision))
    same(await storage.get(key), KeyValue(key, b"one", revision))


async def run_update(storage: Storage, prefix: str) -> None:
    key = prefix + "a"
    first = await storage.create(key, b"one")
    second = await storage.update(key, b"two", expected=first)
    assert second > first
    error = await expect(RevisionConflict, storage.update(key, b"three", expected=first))
    same(error.current, KeyValue(key, b"two", second))
    same(await storage.get(key), KeyValue(key, b"two", second))
    gone = await expect(RevisionConflict, storage.update(prefix + "b", b"x", expected=first))
    same(gone.current, None)
    same(await storage.get(prefix + "b"), None)


async def run_delete(storage: Storage, prefix: str) -> None:
    key = prefix + "a"
    first = await storage.create(key, b"one")
    error = await expect(RevisionConflict, storage.delete(key, expected=first + 1000))
    same(error.current, KeyValue(key, b"one", first))
    deleted = await storage.delete(key, expected=first)
    assert deleted > first
    same(await storage.get(key), None)
    same((await expect(RevisionConflict, storage.delete(key, expected=first))).current, None)
    again = await storage.create(key, b"two")
    assert again > deleted
    same(await storage.get(key), KeyValue(key, b"two", again))


async def run_values_are_opaque(storage: Storage, prefix: str) -> None:
    values = [b"", b"\0\xff\n", bytes(range(256)) * 4096]
    for number, value in enumerate(values):
        key = f"{prefix}ns/name-{number}.example"
        revision = await storage.create(key, value)
        same(await storage.get(key), KeyValue(key, value, revision))
    result = await storage.range(prefix)
    same([kv.value for kv in result.kvs], values)


async def run_range(storage: Storage, prefix: str) -> None:
    names = ["b/2", "a/1", "c", "b/1", "b.x/1", "b", "a-b/1"]
    for name in names:
        await storage.create(prefix + name, name.encode())
    await storage.create(prefix[:-1] + "0/outside", b"x")
    result = await storage.range(prefix)
    same(_keys(result, prefix), sorted(names))
    same((result.more, result.count), (False, len(names)))
    same([kv.value.decode() for kv in result.kvs], sorted(names))
    assert result.revision >= max(kv.mod_revision for kv in result.kvs)
    inner = await storage.range(prefix + "b/")
    same(_keys(inner, prefix), ["b/1", "b/2"])
    same((await storage.range(prefix + "nothing/")).kvs, [])


async def run_range_pages(storage: Storage, prefix: str) -> None:
    names = [f"n/{number:02}" for number in range(10)]
    for name in names:
        await storage.create(prefix + name, b"x")
    seen: list[str] = []
    start, revision = "", 0
    for size in (3, 3, 3, 1):
        page = await storage.range(prefix, start=start, limit=3, revision=revision)
        seen += _keys(page, prefix)
        same((len(page.kvs), page.more, page.count), (size, size == 3, 10))
        start, revision = page.kvs[-1].key + "\0", page.revision
        # Later writes are not seen at the first page's revision.
        await storage.create(f"{prefix}n/{len(seen):02}-new", b"y")
    same(seen, names)
    exact = await storage.range(prefix, start=prefix + "n/05", limit=1, revision=revision)
    same(_keys(exact, prefix), ["n/05"])
    whole = await storage.range(prefix, limit=10, revision=revision)
    same((len(whole.kvs), whole.more), (10, False))


async def run_range_at_revision(storage: Storage, prefix: str) -> None:
    r1 = await storage.create(prefix + "a", b"a1")
    r2 = await storage.create(prefix + "b", b"b1")
    r3 = await storage.update(prefix + "a", b"a2", expected=r1)
    r4 = await storage.delete(prefix + "b", expected=r2)
    r5 = await storage.create(prefix + "b", b"b2")
    r6 = await storage.create(prefix + "c", b"c1")
    states = {
        r1: [("a", b"a1", r1)],
        r2: [("a", b"a1", r1), ("b", b"b1", r2)],
        r3: [("a", b"a2", r3), ("b", b"b1", r2)],
        r4: [("a", b"a2", r3)],
        r5: [("a", b"a2", r3), ("b", b"b2", r5)],
        r6: [("a", b"a2", r3), ("b", b"b2", r5), ("c", b"c1", r6)],
    }
    for revision, state in states.items():
        result = await storage.range(prefix, revision=revision)
        same([(kv.key.removeprefix(prefix), *kv[1:]) for kv in result.kvs], state)
        same((result.more, result.count), (False, len(state)))
        page = await storage.range(prefix, start=prefix + "b", limit=1, revision=revision)
        same(_keys(page, prefix), [name for name, *_ in state if name >= "b"][:1])
        same(page.count, len(state))


async def run_future_revision(storage: Storage, prefix: str) -> None:
    revision = await storage.create(prefix + "a", b"x")
    error = await expect(FutureRevision, storage.range(prefix, revision=revision + 1_000_000))
    same(error.requested, revision + 1_000_000)
    assert error.current >= revision


async def run_compaction(storage: Storage, prefix: str) -> None:
    r1 = await storage.create(prefix + "a", b"a1")
    r2 = await storage.create(prefix + "b", b"b1")
    r3 = await storage.update(prefix + "a", b"a2", expected=r1)
    r4 = await storage.delete(prefix + "b", expected=r2)
    r5 = await storage.create(prefix + "c", b"c1")
    await storage.compact(r4)
    for revision in (r1, r2, r3):
        await expect(Compacted, storage.range(prefix, revision=revision))
    at_r5 = await storage.range(prefix, revision=r5)
    same([(kv.value, kv.mod_revision) for kv in at_r5.kvs], [(b"a2", r3), (b"c1", r5)])
    same((await storage.range(prefix, revision=r4)).count, 1)
    same(await storage.get(prefix + "a"), KeyValue(prefix + "a", b"a2", r3))
    r6 = await storage.update(prefix + "a", b"a3", expected=r3)
    same((await storage.range(prefix, revision=r5)).kvs, at_r5.kvs)
    sink = RecordingSink()
    handle = storage.watch(prefix, r5, sink)
    await sink.until_revision(r6)
    same(
        sink.shape(),
        [("PUT", prefix + "c", b"c1", None), ("PUT", prefix + "a", b"a3", b"a2")],
    )
    handle.cancel()


async def run_watch_live(storage: Storage, prefix: str) -> None:
    start = await storage.current_revision() + 1
    sink = RecordingSink()
    handle = storage.watch(prefix, start, sink)
    r1 = await storage.create(prefix + "a", b"a1")
    r2 = await storage.update(prefix + "a", b"a2", expected=r1)
    await storage.create(prefix[:-1] + "0/outside", b"x")
    r3 = await storage.delete(prefix + "a", expected=r2)
    r4 = await storage.create(prefix + "a", b"a3")
    if storage.synchronous_watch:
        same(len(sink.events), 4)
    await sink.until_revision(r4)
    key = prefix + "a"
    same(
        sink.events,
        [
            StorageEvent("PUT", key, b"a1", r1, None, 0),
            StorageEvent("PUT", key, b"a2", r2, b"a1", r1),
            StorageEvent("DELETE", key, b"a2", r3, b"a2", r2),
            StorageEvent("PUT", key, b"a3", r4, None, 0),
        ],
    )
    handle.cancel()
    await sink.until_closed()
    same(sink.error, None)
    await storage.create(prefix + "b", b"unseen")
    same(len(sink.events), 4)
    handle.cancel()


async def run_watch_from_the_past(storage: Storage, prefix: str) -> None:
    r1 = await storage.create(prefix + "a", b"a1")
    r2 = await storage.update(prefix + "a", b"a2", expected=r1)
    r3 = await storage.delete(prefix + "a", expected=r2)
    all_of_it, later, last = RecordingSink(), RecordingSink(), RecordingSink()
    handles = [
        storage.watch(prefix, r1, all_of_it),
        storage.watch(prefix, r2, later),
        storage.watch(prefix, r3 + 1, last),
    ]
    r4 = await storage.create(prefix + "b", b"b1")
    for sink, expected in ((all_of_it, [r1, r2, r3, r4]), (later, [r2, r3, r4]), (last, [r4])):
        await sink.until_revision(r4)
        same([event.revision for event in sink.events], expected)
    same(all_of_it.events[2], StorageEvent("DELETE", prefix + "a", b"a2", r3, b"a2", r2))
    same(later.events[0].prev_value, b"a1")
    for handle in handles:
        handle.cancel()


async def run_watch_compacted(storage: Storage, prefix: str) -> None:
    """A start below the compaction is refused, or (a store that still has the events at hand)
    served in full; never with a gap."""
    r1 = await storage.create(prefix + "a", b"a1")
    r2 = await storage.update(prefix + "a", b"a2", expected=r1)
    r3 = await storage.update(prefix + "a", b"a3", expected=r2)
    await storage.compact(r3)
    sink = RecordingSink()
    handle = storage.watch(prefix, r1, sink)
    await sink.until(lambda: sink.closed or len(sink.events) == 3)
    if sink.closed:
        assert isinstance(sink.error, Compacted), sink.error
        same(sink.events, [])
    else:
        assert not storage.synchronous_watch
        same([event.revision for event in sink.events], [r1, r2, r3])
    handle.cancel()


async def run_watch_single_key_prefix(storage: Storage, prefix: str) -> None:
    sink = RecordingSink()
    handle = storage.watch(prefix + "ns/", await storage.current_revision() + 1, sink)
    await storage.create(prefix + "ns", b"no")
    await storage.create(prefix + "nsx/a", b"no")
    last = await storage.create(prefix + "ns/a", b"yes")
    await sink.until_revision(last)
    same([event.value for event in sink.events], [b"yes"])
    handle.cancel()


async def run_one_writer_wins(storage: Storage, prefix: str) -> None:
    key = prefix + "a"

    async def attempt(write: Awaitable[int]) -> int:
        try:
            return await write
        except (KeyExists, RevisionConflict) as error:
            assert error.current is not None
            return 0

    creates = [attempt(storage.create(key, b"%d" % n)) for n in range(10)]
    won = [revision for revision in await asyncio.gather(*creates) if revision]
    same(len(won), 1)
    updates = [attempt(storage.update(key, b"%d" % n, expected=won[0])) for n in range(10)]
    results = await asyncio.gather(*updates)
    updated = [revision for revision in results if revision]
    same(len(updated), 1)
    same(await storage.get(key), KeyValue(key, b"%d" % results.index(updated[0]), updated[0]))


async def run_many_writers(storage: Storage, prefix: str) -> None:
    sink = RecordingSink()
    handle = storage.watch(prefix, await storage.current_revision() + 1, sink)

    async def writer(number: int) -> list[int]:
        key = f"{prefix}w/{number}"
        revisions = [await storage.create(key, b"0")]
        for step in range(4):
            value = b"%d" % step
            revisions.append(await storage.update(key, value, expected=revisions[-1]))
        revisions.append(await storage.delete(key, expected=revisions[-1]))
        return revisions

    written = await asyncio.gather(*(writer(number) for number in range(32)))
    flat = sorted(revision for revisions in written for revision in revisions)
    same(len(set(flat)), 32 * 6)
    await sink.until_revision(flat[-1])
    same([event.revision for event in sink.events], flat)
    state: dict[str, tuple[bytes, int]] = {}
    for event in sink.events:
        before = state.get(event.key, (None, 0))
        same((event.prev_value, event.prev_revision), before)
        state[event.key] = (event.value, event.revision)
        if event.type == "DELETE":
            del state[event.key]
    same(state, {})
    handle.cancel()


async def run_cancelled_writer(storage: Storage, prefix: str) -> None:
    """A caller that gives up leaves the store whole: its write happened or it didn't."""
    doomed = asyncio.ensure_future(storage.create(prefix + "a", b"1"))  # noqa: TID251
    await asyncio.sleep(0)
    doomed.cancel()
    await asyncio.gather(doomed, return_exceptions=True)
    current = await storage.get(prefix + "a")
    if current is None:
        await storage.create(prefix + "a", b"2")
    else:
        await storage.update(prefix + "a", b"2", expected=current.mod_revision)
    kv = await storage.get(prefix + "a")
    assert kv is not None
    same(kv.value, b"2")


async def run_errors_are_storage_errors(storage: Storage, prefix: str) -> None:
    for attempt in (
        storage.update(prefix + "a", b"", expected=1),
        storage.delete(prefix + "a", expected=1),
        storage.range(prefix, revision=1 << 60),
        storage.compact(1 << 60),
    ):
        await expect(StorageError, attempt)


async def run_ttl(storage: Storage, prefix: str, advance: Advance) -> None:
    """``ttl`` deletes as a write does; a later write without one takes it away."""
    sink = RecordingSink()
    handle = storage.watch(prefix, await storage.current_revision() + 1, sink)
    short = await storage.create(prefix + "short", b"s", ttl=1)
    kept = await storage.create(prefix + "kept", b"k", ttl=1)
    kept = await storage.update(prefix + "kept", b"k2", expected=kept)
    longer = await storage.create(prefix + "longer", b"l")
    await storage.update(prefix + "longer", b"l2", expected=longer, ttl=600)
    await advance(2.0)
    await sink.until(lambda: any(event.type == "DELETE" for event in sink.events))
    gone = sink.events[-1]
    same((gone.key, gone.value, gone.prev_revision), (prefix + "short", b"s", short))
    assert gone.revision > kept
    same(_keys(await storage.range(prefix), prefix), ["kept", "longer"])
    handle.cancel()


CONTRACT: tuple[Callable[[Storage, str], Awaitable[None]], ...] = (
    run_create_and_get,
    run_create_existing,
    run_update,
    run_delete,
    run_values_are_opaque,
    run_range,
    run_range_pages,
    run_range_at_revision,
    run_future_revision,
    run_compaction,
    run_watch_live,
    run_watch_from_the_past,
    run_watch_compacted,
    run_watch_single_key_prefix,
    run_one_writer_wins,
    run_many_writers,
    run_cancelled_writer,
    run_errors_are_storage_errors,
)
