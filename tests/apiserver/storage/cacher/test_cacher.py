"""The watch cache over a store: reading, watching, selectors, history, bookmarks, recovery."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.cacher.watch_cache import LOWER_BOUND
from pilothouse.apiserver.storage.continue_token import EXPIRED_LIST, decode_continue
from pilothouse.apiserver.storage.errors import Compacted, StorageError, Unavailable
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.versioner import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pilothouse.apiserver.storage.cacher.cache_watcher import CacheWatcher
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry
    from pilothouse.apiserver.storage.cacher.interfaces import Cacher as CacherInterface

PODS = "/registry/pods/"


def pod(namespace: str, name: str, node: str = "", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"nodeName": node}}


class Pods:
    """Writes pods and remembers their revisions."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.revisions: dict[str, int] = {}

    async def put(self, key: str, node: str = "", **labels: str) -> int:
        value = encode(pod(*key.split("/"), node, **labels))
        path = PODS + key
        if key in self.revisions:
            write = self.storage.update(path, value, expected=self.revisions[key])
        else:
            write = self.storage.create(path, value)
        self.revisions[key] = await write
        return self.revisions[key]

    async def delete(self, key: str) -> int:
        return await self.storage.delete(PODS + key, expected=self.revisions.pop(key))


@pytest.fixture
def storage(clock: FakeClock) -> MemoryStorage:
    return MemoryStorage(clock)


@pytest.fixture
def pods(storage: MemoryStorage) -> Pods:
    return Pods(storage)


def node_of(entry: CacheEntry) -> str:
    return str(entry.obj["spec"]["nodeName"])


@pytest.fixture
async def cacher(storage: MemoryStorage, clock: FakeClock) -> AsyncIterator[Cacher]:
    cacher = Cacher(storage, PODS, clock=clock, indexers={"spec.nodeName": node_of})
    await cacher.ensure_ready()
    yield cacher
    await cacher.close()


def label(name: str) -> Callable[[CacheEntry], bool]:
    return lambda entry: name in entry.obj["metadata"]["labels"]


def seen(watcher: CacheWatcher) -> list[str]:
    return [
        f"{event.type} {event.entry.namespace}/{event.entry.name} {event.revision}"
        if event.type != "BOOKMARK"
        else f"BOOKMARK {event.revision} {event.initial_events_end}"
        for event in watcher.take()
    ]


def test_it_keeps_the_interface(storage: MemoryStorage, clock: FakeClock) -> None:
    interface: CacherInterface = Cacher(storage, PODS, clock=clock)
    assert interface.revision == 0


async def test_what_is_stored_before_and_after_the_start_is_there(
    storage: MemoryStorage, pods: Pods, clock: FakeClock
) -> None:
    await pods.put("a/1")
    await storage.create("/registry/podsets/a/1", b"{}")
    cacher = Cacher(storage, PODS, clock=clock)
    await asyncio.gather(cacher.ensure_ready(), cacher.ensure_ready())
    revision = await pods.put("b/2")
    assert len(cacher) == 2
    entry = cacher.get(PODS + "b/2")
    assert entry is not None
    assert (entry.namespace, entry.name, entry.revision) == ("b", "2", revision)
    assert orjson.loads(entry.data)["metadata"]["resourceVersion"] == str(revision)
    assert entry.obj is entry.obj
    assert entry.obj["metadata"]["resourceVersion"] == str(revision)
    entry.memo["x"] = 1
    assert entry.memo == {"x": 1}
    await pods.delete("b/2")
    assert cacher.get(PODS + "b/2") is None
    await cacher.close()


async def test_cluster_scoped_and_nested_prefixes(storage: MemoryStorage, clock: FakeClock) -> None:
    await storage.create("/registry/services/specs/ns/web", encode(pod("ns", "web")))
    await storage.create("/registry/minions/n1", encode(pod("", "n1")))
    for prefix, key, parts in (
        ("/registry/services/specs/", "ns/web", ("ns", "web")),
        ("/registry/minions/", "n1", ("", "n1")),
    ):
        cacher = Cacher(storage, prefix, clock=clock)
        await cacher.ensure_ready()
        entry = cacher.get(prefix + key)
        assert entry is not None
        assert (entry.namespace, entry.name) == parts
        await cacher.close()


async def test_the_revision_follows_the_whole_store(cacher: Cacher, storage: MemoryStorage) -> None:
    revision = await storage.create("/registry/other/a", b"{}")
    assert cacher.revision == revision
    await cacher.wait_until_fresh()
    await cacher.wait_until_fresh(revision)


async def test_a_future_revision_is_waited_for(
    cacher: Cacher, pods: Pods, clock: FakeClock
) -> None:
    revision = cacher.revision
    waiting = asyncio.ensure_future(cacher.wait_until_fresh(revision + 2))
    await asyncio.sleep(0)
    await pods.put("a/1")
    await asyncio.sleep(0)
    assert not waiting.done()
    await pods.put("a/2")
    await waiting
    waiting = asyncio.ensure_future(cacher.wait_until_fresh(revision + 10))
    await asyncio.sleep(0)
    clock.advance(3)
    with pytest.raises(StatusError) as raised:
        await waiting
    assert raised.value.code == 504
    assert raised.value.has_cause("ResourceVersionTooLarge")
    assert (
        raised.value.message
        == f"Too large resource version: {revision + 10}, current: {revision + 2}"
    )


async def test_list_in_pages(cacher: Cacher, pods: Pods) -> None:
    for key in ("b/1", "a/2", "a/1", "a-b/1", "c/1"):
        await pods.put(key, **({"odd": "x"} if key.endswith("1") else {}))
    entries, more, remaining = cacher.list(PODS)
    assert [entry.key.removeprefix(PODS) for entry in entries] == [
        "a-b/1",
        "a/1",
        "a/2",
        "b/1",
        "c/1",
    ]
    assert (more, remaining) == (False, 0)
    assert [e.name for e in cacher.list(PODS + "a/")[0]] == ["1", "2"]
    first, more, remaining = cacher.list(PODS, limit=2)
    assert (len(first), more, remaining) == (2, True, 3)
    rest, more, remaining = cacher.list(PODS, start=first[-1].key + "\0", limit=3)
    assert (len(rest), more, remaining) == (3, False, 0)
    odd, more, _ = cacher.list(PODS, limit=3, predicate=label("odd"))
    assert [entry.namespace for entry in odd] == ["a-b", "a", "b"]
    assert more
    odd, more, _ = cacher.list(PODS, limit=4, predicate=label("odd"))
    assert not more


async def test_old_revisions_are_listed_from_the_window(cacher: Cacher, pods: Pods) -> None:
    await pods.put("a/1")
    await pods.put("a/2")
    old = await pods.put("b/1")
    await pods.put("a/1", changed="x")
    await pods.delete("a/2")
    await pods.put("a/3")

    async def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the store was read")

    pods.storage.range = refuse  # type: ignore[method-assign,assignment]
    entries, more, remaining = await cacher.list_exact(PODS, old)
    assert [
        (e.key.removeprefix(PODS), "changed" in e.obj["metadata"]["labels"]) for e in entries
    ] == [
        ("a/1", False),
        ("a/2", False),
        ("b/1", False),
    ]
    assert (more, remaining) == (False, 0)
    page, more, remaining = await cacher.list_exact(PODS + "a/", old, limit=1)
    assert ([entry.name for entry in page], more, remaining) == (["1"], True, 1)
    page, more, _ = await cacher.list_exact(PODS, old, start=page[-1].key + "\0", limit=2)
    assert ([entry.key.removeprefix(PODS) for entry in page], more) == (["a/2", "b/1"], False)


async def test_older_revisions_come_from_the_store_until_they_are_compacted(
    cacher: Cacher, pods: Pods, clock: FakeClock
) -> None:
    for number in range(5):
        await pods.put(f"a/{number}", even="x" if number % 2 == 0 else "")
    old = cacher.revision
    for _ in range(2 * LOWER_BOUND):
        clock.advance(10)
        await pods.put("a/0", changed="x")
    page, more, remaining = await cacher.list_exact(PODS, old, limit=2)
    assert ([entry.name for entry in page], more, remaining) == (["0", "1"], True, 3)
    assert "changed" not in page[0].obj["metadata"]["labels"]
    page, more, remaining = await cacher.list_exact(PODS, old, start=PODS + "a/1\0", limit=2)
    assert ([entry.name for entry in page], more, remaining) == (["2", "3"], True, 1)
    even = lambda entry: entry.obj["metadata"]["labels"].get("even") == "x"  # noqa: E731
    page, more, _ = await cacher.list_exact(PODS, old, limit=2, predicate=even)
    assert ([entry.name for entry in page], more) == (["0", "2"], True)
    await pods.storage.compact(cacher.revision)
    with pytest.raises(StatusError) as raised:
        await cacher.list_exact(PODS, old)
    assert (raised.value.code, raised.value.message) == (410, EXPIRED_LIST)
    with pytest.raises(StatusError) as raised:
        await cacher.list_exact(PODS, old, start=PODS + "a/2")
    assert raised.value.continue_token is not None
    assert decode_continue(raised.value.continue_token, PODS) == (PODS + "a/2", -1)
    with pytest.raises(StatusError) as raised:
        await cacher.list_exact(PODS, cacher.revision + 5)
    assert raised.value.code == 504


async def test_what_the_store_has_compacted_is_expired_though_the_window_knows_it(
    cacher: Cacher, storage: MemoryStorage, pods: Pods
) -> None:
    for name in "abc":
        await pods.put(f"default/{name}")
    revision = await storage.current_revision()
    page, _, _ = await cacher.list_exact(PODS, revision, limit=1)
    await pods.put("default/d")
    await storage.compact(revision)
    again, _, _ = await cacher.list_exact(PODS, revision, start=page[0].key + "\0")
    assert len(again) == 2
    await storage.compact(revision + 1)
    with pytest.raises(StatusError) as caught:
        await cacher.list_exact(PODS, revision, start=page[0].key + "\0")
    assert caught.value.code == 410 and caught.value.continue_token


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


async def test_subscribers_hear_first_and_of_everything(cacher: Cacher, pods: Pods) -> None:
    order: list[str] = []
    watcher = cacher.watch(PODS, from_revision=cacher.revision)
    watcher.wake(lambda: order.append("watcher"))
    handler = lambda event: order.append(event.type)  # noqa: E731
    cacher.subscribe(handler)
    await pods.put("a/1")
    assert order == ["ADDED", "watcher"]
    cacher.unsubscribe(handler)
    await pods.put("a/1")
    assert order == ["ADDED", "watcher"]


async def test_a_writer_saves_the_readers_the_decoding(
    cacher: Cacher, storage: MemoryStorage
) -> None:
    obj = pod("a", "1")
    value = encode(obj)
    cacher.remember(PODS + "a/1", value, obj)
    revision = await storage.create(PODS + "a/1", value)
    entry = cacher.written(PODS + "a/1", value, revision)
    assert entry is cacher.get(PODS + "a/1")
    assert entry.obj["spec"] is obj["spec"]
    assert entry.obj == orjson.loads(entry.data)
    assert "resourceVersion" not in obj["metadata"]
    # Another value of that key must not get this object.
    cacher.remember(PODS + "a/1", encode(pod("a", "1", "n1")), pod("a", "1", "n1"))
    await storage.update(PODS + "a/1", encode(pod("a", "1", "n2")), expected=revision)
    found = cacher.get(PODS + "a/1")
    assert found is not None
    assert node_of(found) == "n2"
    old = cacher.written(PODS + "a/1", value, revision)
    assert (old.revision, node_of(old)) == (revision, "")


async def test_after_a_lost_watch_everything_is_listed_again(
    cacher: Cacher, pods: Pods, clock: FakeClock
) -> None:
    await pods.put("a/kept")
    await pods.put("a/gone")
    await pods.put("a/changed")
    told: list[tuple[str, str]] = []
    cacher.subscribe(lambda event: told.append((event.type, event.entry.name)))
    watcher = cacher.watch(PODS, from_revision=cacher.revision)
    handle = cacher._handle
    assert handle is not None
    # The store's watch breaks as it does when a compaction passes it.
    pods.storage._hub.remove(handle)  # type: ignore[arg-type]
    await pods.delete("a/gone")
    await pods.put("a/changed", x="y")
    await pods.put("a/new")
    cacher.on_closed(Compacted(1, 2))
    assert (watcher.closed, watcher.error) == (True, None)
    await cacher.ensure_ready()
    assert told == [("MODIFIED", "changed"), ("DELETED", "gone"), ("ADDED", "new")]
    assert sorted(entry.name for entry in cacher.list(PODS)[0]) == ["changed", "kept", "new"]
    with pytest.raises(StatusError):
        cacher.watch(PODS, from_revision=2)
    await pods.put("a/later")
    assert told[-1] == ("ADDED", "later")


async def test_a_store_that_fails_is_asked_again(storage: MemoryStorage, clock: FakeClock) -> None:
    cacher = Cacher(storage, PODS, clock=clock)
    working = storage.range

    async def fail(*args: object, **options: object) -> None:
        raise Unavailable("no store")

    storage.range = fail  # type: ignore[method-assign,assignment]
    for result in await asyncio.gather(
        cacher.ensure_ready(), cacher.ensure_ready(), return_exceptions=True
    ):
        assert isinstance(result, Unavailable)
    storage.range = working  # type: ignore[method-assign]
    await cacher.ensure_ready()
    await cacher.close()
    with pytest.raises(StorageError, match="closed"):
        await Cacher.ensure_ready(cacher)


async def test_a_foreign_value_is_left_out_of_events_but_not_of_the_list(
    cacher: Cacher, storage: MemoryStorage, clock: FakeClock
) -> None:
    await storage.create(PODS + "a/1", b"k8s\0 protobuf")
    assert cacher.get(PODS + "a/1") is None
    other = Cacher(storage, PODS, clock=clock)
    with pytest.raises(StorageError, match="/registry/pods/a/1 is no JSON object"):
        await other.ensure_ready()
    await other.close()


async def test_close_ends_the_watches(cacher: Cacher) -> None:
    watcher = cacher.watch(PODS, from_revision=cacher.revision)
    waiting = asyncio.ensure_future(watcher.next_batch())
    await asyncio.sleep(0)
    await cacher.close()
    assert await waiting == []


async def test_one_readers_failure_is_nobody_elses(cacher: Cacher, pods: Pods) -> None:
    def fail(entry: object) -> bool:
        raise KeyError("spec")

    def fail_to_wake() -> None:
        raise RuntimeError("no")

    cacher.subscribe(fail)  # type: ignore[arg-type]
    broken = cacher.watch(PODS, from_revision=cacher.revision, predicate=fail)
    waking = cacher.watch(PODS, from_revision=cacher.revision)
    waking.wake(fail_to_wake)
    good = cacher.watch(PODS, from_revision=cacher.revision)
    revision = await pods.put("a/1")
    assert isinstance(broken.error, KeyError)
    assert seen(good) == seen(waking) == [f"ADDED a/1 {revision}"]


async def test_unread_objects_of_writers_are_let_go(cacher: Cacher, storage: MemoryStorage) -> None:
    first = pod("a", "0")
    for number in range(200):
        obj = first if number == 0 else pod("a", str(number))
        value = encode(obj)
        cacher.remember(PODS + f"a/{number}", value, obj)
        await storage.create(PODS + f"a/{number}", value)
    old, new = cacher.get(PODS + "a/0"), cacher.get(PODS + "a/199")
    assert old is not None and new is not None
    assert old._base is None and old.obj["spec"] == first["spec"]
    assert new._base is not None


async def test_the_window_is_bounded_in_bytes(
    cacher: Cacher, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pilothouse.apiserver.storage.cacher.watch_cache.MAX_WINDOW_BYTES", 1_500_000
    )
    value = encode({**pod("a", "1"), "data": "x" * 10_000})
    start = cacher.revision
    revision = await storage.create(PODS + "a/1", value)
    for _ in range(100):
        revision = await storage.update(PODS + "a/1", value, expected=revision)
    assert len(cacher.watch(PODS, from_revision=start).take()) == 101
    for _ in range(100):
        revision = await storage.update(PODS + "a/1", value, expected=revision)
    with pytest.raises(StatusError, match="too old resource version"):
        cacher.watch(PODS, from_revision=start)
    assert len(cacher.watch(PODS, from_revision=revision - 100).take()) == 100
