"""Compaction keeps one interval of history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilothouse.apiserver.storage.compaction import compactor_for, run_compaction
from pilothouse.apiserver.storage.errors import Compacted
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    from pilothouse.apimachinery.testing import FakeClock


async def test_history_of_the_last_interval_stays(clock: FakeClock) -> None:
    storage = MemoryStorage(clock)
    tasks = TaskOwner("test")
    tasks.start(run_compaction(compactor_for(storage), clock), "compaction")
    r1 = await storage.create("/registry/a", b"1")
    r2 = await storage.update("/registry/a", b"2", expected=r1)
    await clock.advance_through(301)
    r3 = await storage.update("/registry/a", b"3", expected=r2)
    assert (await storage.range("/registry/", revision=r1)).count == 1
    await clock.advance_through(300)
    with pytest.raises(Compacted):
        await storage.range("/registry/", revision=r1)
    assert (await storage.range("/registry/", revision=r2)).kvs[0].value == b"2"
    await clock.advance_through(300)
    with pytest.raises(Compacted):
        await storage.range("/registry/", revision=r2)
    assert (await storage.range("/registry/", revision=r3)).kvs[0].value == b"3"
    await tasks.close()


async def test_interval_zero_turns_it_off(clock: FakeClock) -> None:
    await run_compaction(compactor_for(MemoryStorage(clock)), clock, 0)
