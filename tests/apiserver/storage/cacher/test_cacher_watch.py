"""Watches of the cache: where they start, selectors, slowness, bookmarks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.cacher.testing import PODS, Pods, label, node_of, seen
from pilothouse.apiserver.storage.cacher.watch_cache import LOWER_BOUND
from pilothouse.apiserver.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry


async def test_watch_from_a_revision(cacher: Cacher, pods: Pods) -> None:
    r1 = await pods.put("a/1")
    r2 = await pods.put("a/1", x="y")
    watcher = cacher.watch(PODS, from_revision=r1)
    namespace = cacher.watch(PODS + "b/", from_revision=cacher.revision)
    single = cacher.watch(PODS + "a/1", from_revision=r2)
    assert seen(watcher) == [f"MODIFIED a/1 {r2}"]
    r3 = await pods.delete("a/1")
    r4 = await pods.put("b/1")
    r5 = await pods.put("a/11")
    assert seen(watcher) == [f"DELETED a/1 {r3}", f"ADDED b/1 {r4}", f"ADDED a/11 {r5}"]
    assert seen(namespace) == [f"ADDED b/1 {r4}"]
    assert seen(single) == [f"DELETED a/1 {r3}"]
    assert not watcher.pending


async def test_a_deleted_object_has_its_last_state_and_the_new_revision(
    cacher: Cacher, pods: Pods
) -> None:
    await pods.put("a/1", last="state")
    watcher = cacher.watch(PODS, from_revision=cacher.revision)
    revision = await pods.delete("a/1")
    (event,) = watcher.take()
    obj = orjson.loads(event.entry.data)
    assert obj == event.entry.obj
    assert obj["metadata"]["resourceVersion"] == str(revision)
    assert obj["metadata"]["labels"] == {"last": "state"}
    assert event.entry.revision == revision


async def test_initial_events(cacher: Cacher, pods: Pods) -> None:
    r1 = await pods.put("a/2")
    r2 = await pods.put("a/1", x="y")
    listed = cacher.watch(PODS, initial=True)
    any_state = cacher.watch(PODS)
    selected = cacher.watch(PODS, initial=True, predicate=label("x"))
    r3 = await pods.put("a/3")
    current = [f"ADDED a/1 {r2}", f"ADDED a/2 {r1}"]
    assert seen(listed) == [*current, f"BOOKMARK {r2} True"]
    assert seen(listed) == [f"ADDED a/3 {r3}"]
    assert seen(any_state) == current
    assert seen(any_state) == [f"ADDED a/3 {r3}"]
    assert seen(selected) == [current[0], f"BOOKMARK {r2} True"]
    empty = cacher.watch(PODS + "none/", initial=True)
    assert seen(empty) == [f"BOOKMARK {r3} True"]


async def test_many_initial_objects_come_in_batches_and_do_not_count_as_slowness(
    cacher: Cacher, pods: Pods
) -> None:
    for number in range(1200):
        await pods.put(f"a/{number:04}")
    watcher = cacher.watch(PODS, initial=True, buffer=10)
    await pods.put("b/last")
    batches = []
    while watcher.pending:
        batches.append(await watcher.next_batch())
    assert [len(batch) for batch in batches] == [500, 500, 201, 1]
    assert batches[2][-1].initial_events_end
    assert [e.entry.name for batch in batches[:3] for e in batch if e.type == "ADDED"] == [
        f"{number:04}" for number in range(1200)
    ]


async def test_selector_transitions(cacher: Cacher, pods: Pods) -> None:
    watchers = [
        cacher.watch(PODS, from_revision=cacher.revision, predicate=label("x")) for _ in range(2)
    ]
    await pods.put("a/1")
    r2 = await pods.put("a/1", x="1")
    r3 = await pods.put("a/1", x="2")
    r4 = await pods.put("a/1", y="3")
    await pods.delete("a/1")
    r6 = await pods.put("a/1", x="4")
    r7 = await pods.delete("a/1")
    first, second = (watcher.take() for watcher in watchers)
    assert [(e.type, e.revision) for e in first] == [
        ("ADDED", r2),
        ("MODIFIED", r3),
        ("DELETED", r4),
        ("ADDED", r6),
        ("DELETED", r7),
    ]
    gone = first[2].entry.obj["metadata"]
    assert (gone["labels"], gone["resourceVersion"]) == ({"x": "2"}, str(r4))
    # What a change looks like is worked out once for all watchers.
    assert all(one is other for one, other in zip(first, second, strict=True))


async def test_a_trigger_spares_other_objects(cacher: Cacher, pods: Pods) -> None:
    asked: list[str] = []

    def on_n1(entry: CacheEntry) -> bool:
        asked.append(entry.name)
        return node_of(entry) == "n1"

    watcher = cacher.watch(
        PODS, from_revision=cacher.revision, predicate=on_n1, trigger=("spec.nodeName", "n1")
    )
    await pods.put("a/other", "n2")
    assert asked == []
    r1 = await pods.put("a/mine", "")
    r2 = await pods.put("a/mine", "n1")
    r3 = await pods.put("a/mine", "n2")
    assert seen(watcher) == [f"ADDED a/mine {r2}", f"DELETED a/mine {r3}"]
    assert r1 < r2
    unknown = cacher.watch(
        PODS, from_revision=cacher.revision, predicate=on_n1, trigger=("spec.x", "n1")
    )
    await pods.put("a/mine", "n1")
    assert unknown.pending


async def test_events_before_the_window_are_expired(
    cacher: Cacher, pods: Pods, clock: FakeClock
) -> None:
    first = await pods.put("a/1")
    for _ in range(2 * LOWER_BOUND):
        await pods.put("a/1")
    assert len(cacher.watch(PODS, from_revision=first).take()) == 2 * LOWER_BOUND
    clock.advance(76)
    await pods.put("a/1")
    with pytest.raises(StatusError) as raised:
        cacher.watch(PODS, from_revision=first)
    assert (raised.value.code, raised.value.reason) == (410, "Expired")
    oldest = cacher.revision - LOWER_BOUND
    assert raised.value.message == f"too old resource version: {first} ({oldest})"
    assert len(cacher.watch(PODS, from_revision=oldest).take()) == LOWER_BOUND


async def test_a_start_in_the_future_waits_for_newer_events(cacher: Cacher, pods: Pods) -> None:
    watcher = cacher.watch(PODS, from_revision=cacher.revision + 1)
    await pods.put("a/1")
    revision = await pods.put("a/2")
    assert seen(watcher) == [f"ADDED a/2 {revision}"]


async def test_a_slow_watcher_is_ended(cacher: Cacher, pods: Pods) -> None:
    slow = cacher.watch(PODS, from_revision=cacher.revision, buffer=3)
    other = cacher.watch(PODS, from_revision=cacher.revision)
    revisions = [await pods.put(f"a/{number}") for number in range(5)]
    assert (slow.closed, slow.too_slow, slow.error) == (True, True, None)
    # What it has is a whole beginning: the client resumes behind it.
    assert [event.revision for event in await slow.next_batch()] == revisions[:3]
    assert await slow.next_batch() == []
    assert len(other.take()) == 5


async def test_waiting_and_waking(cacher: Cacher, pods: Pods) -> None:
    watcher = cacher.watch(PODS, from_revision=cacher.revision)
    waiting = asyncio.ensure_future(watcher.next_batch())
    await asyncio.sleep(0)
    await pods.put("a/1")
    await pods.put("a/2")
    assert [event.entry.name for event in await waiting] == ["1", "2"]
    calls: list[int] = []
    watcher.wake(lambda: calls.append(1))
    await asyncio.sleep(0)
    assert calls == []
    await pods.put("a/3")
    await pods.put("a/4")
    assert calls == [1]
    watcher.wake(lambda: calls.append(2))
    assert calls == [1]
    await asyncio.sleep(0)
    assert calls == [1, 2]
    watcher.wake(None)
    watcher.take()
    watcher.wake(lambda: calls.append(3))
    watcher.close()
    assert calls == [1, 2, 3]
    assert await watcher.next_batch() == []
    await pods.put("a/5")
    assert not watcher.pending


async def test_bookmarks_about_once_a_minute_and_before_the_deadline(
    cacher: Cacher, storage: MemoryStorage, clock: FakeClock
) -> None:
    start = cacher.revision
    watcher = cacher.watch(PODS, from_revision=start, bookmarks=True, deadline=150.0)
    plain = cacher.watch(PODS, from_revision=start)
    clock.advance(59)
    assert seen(watcher) == []
    revision = await storage.create("/registry/other/a", b"{}")
    clock.advance(1)
    assert seen(watcher) == [f"BOOKMARK {revision} False"]
    clock.advance(60)
    assert seen(watcher) == [f"BOOKMARK {revision} False"]
    clock.advance(27)
    assert seen(watcher) == []
    clock.advance(1)
    assert seen(watcher) == [f"BOOKMARK {revision} False"]
    clock.advance(600)
    assert seen(watcher) == []
    assert seen(plain) == []


async def test_close_ends_the_watches(cacher: Cacher) -> None:
    watcher = cacher.watch(PODS, from_revision=cacher.revision)
    waiting = asyncio.ensure_future(watcher.next_batch())
    await asyncio.sleep(0)
    await cacher.close()
    assert await waiting == []
