"""A cache of pods over a memory store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.cacher.testing import PODS, Pods, node_of
from pilothouse.apiserver.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def storage(clock: FakeClock) -> MemoryStorage:
    return MemoryStorage(clock)


@pytest.fixture
def pods(storage: MemoryStorage) -> Pods:
    return Pods(storage)


@pytest.fixture
async def cacher(storage: MemoryStorage, clock: FakeClock) -> AsyncIterator[Cacher]:
    cacher = Cacher(storage, PODS, clock=clock, indexers={"spec.nodeName": node_of})
    await cacher.ensure_ready()
    yield cacher
    await cacher.close()
