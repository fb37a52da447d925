"""What is special to the memory store: forks."""

from __future__ import annotations

import time

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.errors import Compacted, Unavailable
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.testing import RecordingSink


async def test_forks_are_independent(clock: FakeClock) -> None:
    parent = MemoryStorage(clock)
    r1 = await parent.create("/a", b"1")
    sink = RecordingSink()
    parent.watch("/", 1, sink)
    child = parent.fork()
    r2 = await child.update("/a", b"child", expected=r1)
    await child.create("/b", b"child")
    assert await parent.update("/a", b"parent", expected=r1) == r2
    assert [event.value for event in sink.events] == [b"1", b"parent"]
    assert [kv.value for kv in (await child.range("/")).kvs] == [b"child", b"child"]
    assert [kv.value for kv in (await parent.range("/")).kvs] == [b"parent"]
    assert (await child.range("/", revision=r1)).kvs[0].value == b"1"


async def test_a_fork_has_its_own_time(clock: FakeClock) -> None:
    parent = MemoryStorage(clock)
    await parent.create("/a", b"1", ttl=10)
    other = FakeClock()
    child = parent.fork(other)
    await child.start()
    other.advance(11)
    assert await child.get("/a") is None
    assert await parent.get("/a") is not None
    clock.advance(11)
    assert await parent.get("/a") is None


async def test_a_fork_of_ten_thousand_objects_takes_milliseconds(clock: FakeClock) -> None:
    parent = MemoryStorage(clock)
    for number in range(10_000):
        await parent.create(f"/registry/pods/ns/{number}", b"x")
    parent.fork()
    times = []
    for _ in range(5):
        begin = time.process_time()
        parent.fork()
        times.append(time.process_time() - begin)
    assert min(times) < 0.005


async def test_history_is_bounded(clock: FakeClock) -> None:
    storage = MemoryStorage(clock, max_history=10)
    revision = await storage.create("/a", b"x")
    for _ in range(100):
        revision = await storage.update("/a", b"x", expected=revision)
    with pytest.raises(Compacted):
        await storage.range("/", revision=2)
    assert (await storage.range("/", revision=revision - 3)).count == 1


async def test_closed(clock: FakeClock) -> None:
    storage = MemoryStorage(clock)
    sink = RecordingSink()
    storage.watch("/", 1, sink)
    await storage.close()
    assert sink.closed and sink.error is None
    with pytest.raises(Unavailable):
        await storage.create("/a", b"x")
