"""The watch cache over a store: reading, history, subscribers, recovery."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.cacher.testing import PODS, Pods, label, node_of, pod, seen
from pilothouse.apiserver.storage.cacher.watch_cache import LOWER_BOUND
from pilothouse.apiserver.storage.continue_token import EXPIRED_LIST, decode_continue
from pilothouse.apiserver.storage.errors import Compacted, StorageError, Unavailable
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.versioner import encode

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.cacher.interfaces import Cacher as CacherInterface


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
        == f"Timeout: Too large resource version: {revision + 10}, current: {revision + 2}"
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
