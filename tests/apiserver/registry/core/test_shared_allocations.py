"""Claims on addresses and ports: one winner, nothing left behind, leftovers found at start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from random import Random
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.registry.core.port_allocator import PortOperation
from pilothouse.apiserver.registry.core.service_allocators import ServiceAllocators
from pilothouse.apiserver.registry.core.shared_allocations import (
    ADDRESS_PREFIX,
    PORT_PREFIX,
    SERVICE_PREFIX,
    AllocationRaced,
    SharedAllocations,
    SharedServiceStore,
    claims_of,
    follow,
)
from pilothouse.apiserver.registry.store import Store
from pilothouse.apiserver.storage.memory import MemoryStorage


def service(name: str, ip: str = "10.96.0.9", port: int = 30001) -> Any:
    spec = {
        "clusterIP": ip,
        "clusterIPs": [ip],
        "type": "NodePort",
        "ports": [{"port": 80, "nodePort": port}],
    }
    return {"metadata": {"name": name, "namespace": "a"}, "spec": spec}


def key(name: str) -> str:
    return f"{SERVICE_PREFIX}a/{name}"


@pytest.fixture
async def storage() -> AsyncIterator[MemoryStorage]:
    made = MemoryStorage(FakeClock())
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def guard(storage: MemoryStorage) -> SharedAllocations:
    return SharedAllocations(storage, storage, FakeClock(), Random(1))


async def keys(storage: MemoryStorage) -> set[str]:
    return {kv.key for prefix in (ADDRESS_PREFIX, PORT_PREFIX)
            for kv in (await storage.range(prefix)).kvs}  # fmt: skip


async def test_one_winner(storage: MemoryStorage, guard: SharedAllocations) -> None:
    first = service("one")
    await guard.create(key("one"), orjson.dumps(first))
    assert await keys(storage) == claims_of(first)
    for raced, other in (
        (f"{ADDRESS_PREFIX}10.96.0.9", service("two", port=30002)),
        (f"{PORT_PREFIX}30001", service("two", ip="10.96.0.10")),
    ):
        with pytest.raises(AllocationRaced) as caught:
            await guard.create(key("two"), orjson.dumps(other))
        assert caught.value.claim == raced and caught.value.code == 409
    assert await keys(storage) == claims_of(first)
    assert await storage.get(key("two")) is None


async def test_addresses_are_objects(storage: MemoryStorage, guard: SharedAllocations) -> None:
    await guard.create(key("one"), orjson.dumps(service("one")))
    found = await storage.get(f"{ADDRESS_PREFIX}10.96.0.9")
    assert found is not None
    address = orjson.loads(found.value)
    assert address["kind"] == "IPAddress" and address["metadata"]["name"] == "10.96.0.9"
    assert address["spec"]["parentRef"] == {
        "group": "",
        "resource": "services",
        "namespace": "a",
        "name": "one",
    }


async def test_updates_and_deletes_give_back(
    storage: MemoryStorage, guard: SharedAllocations
) -> None:
    revision = await guard.create(key("one"), orjson.dumps(service("one")))
    changed = service("one", port=30005)
    revision = await guard.update(key("one"), orjson.dumps(changed), expected=revision)
    assert await keys(storage) == claims_of(changed)
    await guard.delete(key("one"), expected=revision)
    assert await keys(storage) == set()


async def test_a_name_that_exists_keeps_nothing(
    storage: MemoryStorage, guard: SharedAllocations
) -> None:
    await guard.create(key("one"), orjson.dumps(service("one")))
    from pilothouse.apiserver.storage.errors import KeyExists

    other = service("one", ip="10.96.0.77", port=30077)
    with pytest.raises(KeyExists):
        await guard.create(key("one"), orjson.dumps(other))
    assert await keys(storage) == claims_of(service("one"))


async def test_two_that_create_the_same_service_share_its_claims(storage: MemoryStorage) -> None:
    """As servers do with default/kubernetes when they start: the loser must not take them away."""
    first, second = (SharedAllocations(storage, storage, FakeClock(), Random(n)) for n in (1, 2))
    one = service("one")
    claims = await first._claim(key("one"), one, claims_of(one))
    await second.create(key("one"), orjson.dumps(one))
    await first._release_but_for(key("one"), claims)
    assert await keys(storage) == claims_of(one)


class Listed:
    def __init__(self, *services: Any) -> None:
        self.services = services
        self.handler: Any = None

    def list(self, resource: Any, namespace: str = "") -> Iterable[Any]:
        return self.services

    def subscribe(self, resource: Any, handler: Any) -> None:
        self.handler = handler


async def test_what_a_dead_server_left_is_found(storage: MemoryStorage) -> None:
    clock = FakeClock()
    guard = SharedAllocations(storage, storage, clock, Random(1))
    lost, kept = service("lost", "10.96.0.20", 30020), service("kept")
    await guard._claim(key("lost"), lost, claims_of(lost))
    await guard.create(key("kept"), orjson.dumps(kept))
    assert await guard.repair(Listed(kept)) == 0, "they may be of a write under way"  # type: ignore[arg-type]
    clock.advance(61)
    assert await guard.repair(Listed(kept)) == 2  # type: ignore[arg-type]
    assert await keys(storage) == claims_of(kept)


def test_allocators_follow_the_others() -> None:
    allocators = ServiceAllocators(["10.96.0.0/24"], (30000, 30100), Random(1))
    listers = Listed()
    follow(listers, allocators)  # type: ignore[arg-type]
    one = service("one")
    listers.handler("ADDED", one, None)
    assert allocators.ports.has(30001)
    moved = service("one", port=30050)
    listers.handler("MODIFIED", moved, one)
    assert allocators.ports.has(30050) and not allocators.ports.has(30001)
    listers.handler("DELETED", moved, moved)
    assert not allocators.ports.has(30050)
    assert allocators.by_family["IPv4"].free == 254


async def test_many_lost_races_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far behind on events, a server loses again and again; each time it learns one port."""
    allocators = ServiceAllocators(["10.96.0.0/24"], (30000, 30099), Random(2))
    tried: list[int] = []
    theirs = {*range(30000, 30098)}

    async def create(self: Any, write: Any, obj: Any) -> int:
        operation = PortOperation(allocators.ports, dry_run=False)
        port = operation.allocate_next()
        tried.append(port)
        if port in theirs:
            operation.revert()
            raise AllocationRaced(f"{PORT_PREFIX}{port}")
        return port

    monkeypatch.setattr(Store, "create_admitted", create)
    store = object.__new__(SharedServiceStore)
    store.context = SimpleNamespace(allocators=allocators)  # type: ignore[assignment]
    write: Any = None
    got: Any = await store.create_admitted(write, service("one"))
    assert 30098 <= got <= 30099
    assert len(tried) > 10
