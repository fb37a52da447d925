"""Leases of several servers: whose address counts, and whose Lease is removed."""

from __future__ import annotations

from typing import Any, cast

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apimachinery.timefmt import format_micro_time
from pilothouse.apiserver.bootstrap.kubernetes_service import wanted_endpoints, wanted_slice
from pilothouse.apiserver.bootstrap.leases import (
    LEASES,
    IdentityLease,
    MasterLeases,
    wanted_lease,
)
from pilothouse.apiserver.storage.memory import MemoryStorage
from pilothouse.apiserver.testing import running_server


class Shared:
    """As much of a server as a lease needs."""

    def __init__(self, storage: MemoryStorage, clock: FakeClock) -> None:
        self.storage = storage
        self.clock = clock


async def test_addresses_of_the_living() -> None:
    clock = FakeClock()
    storage = MemoryStorage(clock)
    await storage.start()
    seen: list[list[str]] = []
    leases = [
        MasterLeases(cast("Any", Shared(storage, clock)), f"10.0.0.{n}", seen.append)
        for n in (1, 2)
    ]
    for lease in leases:
        await lease.renew()
        await lease.renew()
    assert await leases[0].alive() == ["10.0.0.1", "10.0.0.2"]
    await leases[1].remove()
    assert seen == [["10.0.0.1"]]
    await storage.close()


def test_endpoints_of_several() -> None:
    endpoints = wanted_endpoints(["10.0.0.1", "10.0.0.2"], 6443)
    assert [a["ip"] for a in endpoints["subsets"][0]["addresses"]] == ["10.0.0.1", "10.0.0.2"]
    assert len(wanted_slice(["10.0.0.1", "10.0.0.2"], 6443)["endpoints"]) == 2


async def test_identity_leases() -> None:
    async with running_server() as server:
        clock = server.clock
        assert isinstance(clock, FakeClock)
        client = server.local_client()
        now = format_micro_time(clock.now())
        await client.create(LEASES, wanted_lease("apiserver-old", "x", "h", now), "kube-system")
        lease = IdentityLease(server)
        clock.advance(3000)
        await server.listers.ensure(LEASES.group_resource)
        await lease.renew()
        await lease.renew()
        await lease.collect()
        names = {o["metadata"]["name"] for o in (await client.list(LEASES, "kube-system")).items}
        assert {lease.name, "apiserver-old"} <= names
        clock.advance(700)
        await lease.collect()
        names = {o["metadata"]["name"] for o in (await client.list(LEASES, "kube-system")).items}
        assert lease.name in names and "apiserver-old" not in names
