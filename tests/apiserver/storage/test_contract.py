"""Every backend against the one contract of apiserver/storage/testing.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.storage.sqlite import SQLiteStorage
from pilothouse.apiserver.storage.testing import CONTRACT, RecordingSink, run_ttl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pilothouse.apimachinery.testing import FakeClock
    from pilothouse.apiserver.storage.interfaces import Storage

EMBEDDED = ("memory", "fork", "sqlite-normal", "sqlite-full")
PREFIX = "/registry/things/"


@pytest.fixture(params=EMBEDDED)
async def storage(
    request: pytest.FixtureRequest, clock: FakeClock, database: Path
) -> AsyncIterator[Storage]:
    store: Storage
    if request.param == "memory":
        store = MemoryStorage(clock)
    elif request.param == "fork":
        parent = MemoryStorage(clock)
        await parent.create("/registry/other/a", b"inherited")
        store = parent.fork()
    else:
        durability = "full" if request.param.endswith("full") else "normal"
        store = SQLiteStorage(database, clock, durability=durability)
    await store.start()
    yield store
    await store.close()


@pytest.mark.parametrize("run", CONTRACT, ids=lambda run: run.__name__.removeprefix("run_"))
async def test_contract(storage: Storage, run: object) -> None:
    assert callable(run)
    await run(storage, PREFIX)


async def test_ttl(storage: Storage, clock: FakeClock) -> None:
    async def advance(seconds: float) -> None:
        await clock.advance_through(seconds)

    await run_ttl(storage, PREFIX, advance)


async def test_a_watch_from_the_compacted_revision_is_whole(storage: Storage) -> None:
    r1 = await storage.create(PREFIX + "a", b"1")
    r2 = await storage.update(PREFIX + "a", b"2", expected=r1)
    r3 = await storage.delete(PREFIX + "a", expected=r2)
    for revision in (r2, r3):
        await storage.compact(revision)
        sink = RecordingSink()
        handle = storage.watch(PREFIX, revision, sink)
        first = sink.events[0]
        assert (first.revision, first.prev_revision) == (revision, revision - 1)
        assert first.prev_value == (b"1" if revision == r2 else b"2")
        handle.cancel()
