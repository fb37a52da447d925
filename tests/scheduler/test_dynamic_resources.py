"""Allocation of devices: pure tables and properties, then the whole scheduler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import FakeClock, make_node, make_object, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import PODS, RESOURCE_CLAIMS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.scheduler.plugins.device_allocator import (
    AllocationError,
    Allocator,
    Taken,
    requests_of,
)
from pilothouse.scheduler.plugins.device_pools import gather
from pilothouse.scheduler.plugins.device_results import allocation_of, devices_of
from pilothouse.scheduler.plugins.device_selectors import Selectors
from pilothouse.scheduler.scheduler import Scheduler

API = "resource.k8s.io/v1"
CLASS: dict[str, Any] = make_object(
    API, "DeviceClass", "gpu", spec={"selectors": [{"cel": {"expression": "device.driver == 'd'"}}]}
)
MATCHES = Selectors().matches


def piece(
    name: str = "s", *devices: Any, pool: str = "p", driver: str = "d", **spec: Any
) -> dict[str, Any]:
    if not {"nodeName", "allNodes", "nodeSelector", "perDeviceNodeSelection"} & set(spec):
        spec["nodeName"] = "n"
    pieces = {"name": pool, "generation": 1, "resourceSliceCount": spec.pop("of", 1)}
    listed = [d if isinstance(d, dict) else {"name": d} for d in devices]
    spec |= {"driver": driver, "pool": pieces, "devices": listed}
    return make_object(API, "ResourceSlice", name, spec=spec)


def gpu(name: str, taints: Any = (), **attributes: Any) -> dict[str, Any]:
    def typed(value: Any) -> dict[str, Any]:
        return {"int" if isinstance(value, int) else "string": value}

    return {
        "name": name, "taints": list(taints), "capacity": {"memory": {"value": "40Gi"}},
        "attributes": {key: typed(value) for key, value in attributes.items()},
    }  # fmt: skip


def claim(*requests: Any, name: str = "c", **devices: Any) -> dict[str, Any]:
    made = make_object(API, "ResourceClaim", name, "default")
    made["metadata"]["uid"] = f"uid-{name}"
    made["spec"] = {"devices": {"requests": list(requests), **devices}}
    return made


def ask(name: str = "r", *selectors: str, **exactly: Any) -> dict[str, Any]:
    chosen = [{"cel": {"expression": s}} for s in selectors]
    return {"name": name, "exactly": {"deviceClassName": "gpu", "selectors": chosen, **exactly}}


def allocate(claims: Any, slices: Any, taken: Any = (), rules: Any = ()) -> Any:
    claims = claims if isinstance(claims, list) else [claims]
    pools = gather(slices, "n", {"zone": "z"}, rules)
    wanted = [requests_of(c, lambda name: CLASS if name == "gpu" else None) for c in claims]
    if not isinstance(taken, Taken):
        taken = Taken(set(taken))
    chosen = Allocator(pools, taken, MATCHES).allocate(claims, wanted)
    if chosen is None:
        return None
    return [allocation_of(c, own, "n", lambda: "id") for c, own in zip(claims, chosen, strict=True)]


def names(result: Any) -> Any:
    if result is None:
        return None
    return [r["device"] for a in result for r in a["devices"]["results"]]


TAINT = {"key": "broken", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("wanted", "slices", "expected"),
    [
        (claim(ask()), [piece("s", "a")], ["a"]),
        (claim(ask(count=2)), [piece("s", "a")], None),
        (claim(ask(count=2)), [piece("s", "a", "b", "c")], ["a", "b"]),
        (claim(ask("x"), ask("y")), [piece("s", "a", "b")], ["a", "b"]),
        (claim(ask(allocationMode="All")), [piece("s", "a", "b")], ["a", "b"]),
        (claim(ask(allocationMode="All")), [], None),
        (claim(ask()), [piece("s", "a", of=2)], None),
        (claim(ask()), [piece("s", "a", nodeName="other")], None),
        (claim(ask()), [piece("s", "a", driver="e")], None),
        (claim(ask("r", "device.attributes['d'].model == 'big'")),
         [piece("s", gpu("a", model="small"), gpu("b", model="big"))], ["b"]),
        (claim(ask("r", "device.capacity['d'].memory.isGreaterThan(quantity('30Gi'))")),
         [piece("s", gpu("a"))], ["a"]),
        (claim(ask()), [piece("s", gpu("a", [TAINT]), "b")], ["b"]),
        (claim(ask(tolerations=[{"key": "broken", "operator": "Exists"}])),
         [piece("s", gpu("a", [TAINT]), "b")], ["a"]),
        # Backtracking: the first choice of x must be given up.
        (claim(ask("x"), ask("y", "device.attributes['d'].n == 1")),
         [piece("s", gpu("a", n=1), gpu("b", n=2))], ["b", "a"]),
        (claim(ask(count=2), constraints=[{"matchAttribute": "d/numa"}]),
         [piece("s", gpu("a", numa=0), gpu("b", numa=1), gpu("c", numa=1))], ["b", "c"]),
        (claim(ask(count=2), constraints=[{"distinctAttribute": "d/numa"}]),
         [piece("s", gpu("a", numa=0), gpu("b", numa=0), gpu("c", numa=1))], ["a", "c"]),
    ],
)  # fmt: skip
def test_allocation(wanted: Any, slices: Any, expected: Any) -> None:
    assert names(allocate(wanted, slices)) == expected


def test_taken_devices_are_left_alone_but_by_administrators() -> None:
    slices = [piece("s", "a")]
    assert allocate(claim(ask()), slices, {("d", "p", "a")}) is None
    (found,) = allocate(claim(ask(adminAccess=True)), slices, {("d", "p", "a")})
    assert found["devices"]["results"][0]["adminAccess"] is True
    assert list(devices_of(found)) == []


def test_the_first_alternative_that_works() -> None:
    options = [
        {"name": "big", "deviceClassName": "gpu", "count": 4},
        {"name": "small", "deviceClassName": "gpu", "count": 1},
    ]
    (found,) = allocate(claim({"name": "r", "firstAvailable": options}), [piece("s", "a")])
    assert found["devices"]["results"][0]["request"] == "r/small"


def test_rules_taint_devices() -> None:
    spec = {"deviceSelector": {"driver": "d", "device": "a"}, "taint": TAINT}
    rule = make_object(API, "DeviceTaintRule", "r", spec=spec)
    assert names(allocate(claim(ask()), [piece("s", "a", "b")], rules=[rule])) == ["b"]


@pytest.mark.parametrize(
    ("spec", "selector"),
    [
        ({"nodeName": "n"}, [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["n"]}]}]),
        ({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["z"]}]}]}},
         [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]),
        ({"allNodes": True}, None),
    ],
)  # fmt: skip
def test_where_an_allocation_can_be_used(spec: Any, selector: Any) -> None:
    (found,) = allocate(claim(ask()), [piece("s", "a", **spec)])
    assert (found.get("nodeSelector") or {}).get("nodeSelectorTerms") == selector


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (claim({"name": "r", "exactly": {"deviceClassName": "none"}}),
         "request r: device class none does not exist"),
        (claim({"name": "r"}), "unknown request type"),
        (claim(ask("r", "device.nope")), "CEL compile error"),
        (claim(ask("r", "device.attributes['d'].missing == 1")), "CEL runtime error"),
        (claim(ask(count=33)), "adding 33 devices exceeds the claim limit of 32, with 0"),
    ],
)  # fmt: skip
def test_claims_that_never_work(wanted: Any, message: str) -> None:
    with pytest.raises(AllocationError, match=message):
        allocate(wanted, [piece("s", "a")])


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(0, 8),
    st.sets(st.integers(0, 7), max_size=4),
)
def test_no_device_twice_and_none_left_unused(
    counts: list[int], devices: int, used: set[int]
) -> None:
    """Plain requests fit if and only if there are enough free devices."""
    claims = [claim(ask(count=n), name=f"c{i}") for i, n in enumerate(counts)]
    taken = {("d", "p", f"g{i}") for i in used if i < devices}
    slices = [piece("s", *(f"g{i}" for i in range(devices)))]
    found = allocate(claims, slices, taken)
    assert (found is not None) == (sum(counts) <= devices - len(taken))
    if found is not None:
        keys = [key for a in found for key in devices_of(a)]
        assert len(keys) == len(set(keys)) == sum(counts)
        assert not taken & set(keys)


# The whole scheduler.


@asynccontextmanager
async def running(*objects: dict[str, Any]) -> AsyncIterator[Any]:
    clock, activity, random = FakeClock(), ActivityTracker(), Random(1)
    client = FakeClient(clock=clock)
    for obj in objects:
        client.seed(obj)

    def bind(action: Any) -> Any:
        bound = copy_object(client.current(PODS, action.name, action.namespace))
        bound["spec"]["nodeName"] = action.object["target"]["name"]
        client.seed(bound)
        return action.object

    client.react("create", "pods/binding", bind)
    informers = SharedInformerFactory(client, clock, random, activity)
    scheduler = Scheduler(Environment(client, informers, clock, random, activity))
    await scheduler.start()
    try:
        await activity.settle()
        yield client, activity
    finally:
        await scheduler.stop()
        await informers.stop()


def pod(name: str, claim_name: str) -> dict[str, Any]:
    made = make_pod(name)
    made["metadata"]["uid"] = f"uid-{name}"
    made["spec"].pop("nodeName", None)
    made["spec"]["resourceClaims"] = [{"name": "r", "resourceClaimName": claim_name}]
    return made


def node(name: str) -> dict[str, Any]:
    made = make_node(name)
    made["status"] = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
    return made


async def test_pod_goes_where_its_device_is() -> None:
    objects = (node("a"), node("n"), CLASS, piece("s", "g"), claim(ask()), pod("p", "c"))
    async with running(*objects) as (client, activity):
        assert client.current(PODS, "p", "default")["spec"]["nodeName"] == "n"
        current = client.current(RESOURCE_CLAIMS, "c", "default")
        assert current["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
        assert current["status"]["reservedFor"] == [
            {"resource": "pods", "name": "p", "uid": "uid-p"}
        ]
        assert names([current["status"]["allocation"]]) == ["g"]
        # The device is taken; a shared claim is not.
        client.seed(claim(ask(), name="d"))
        client.seed(pod("q", "d"))
        client.seed(pod("friend", "c"))
        await activity.settle()
        refused = condition_of(client.current(PODS, "q", "default"), "PodScheduled")
        assert "2 cannot allocate all claims" in refused["message"]
        assert client.current(PODS, "friend", "default")["spec"]["nodeName"] == "n"


async def test_pod_waits_for_its_claim() -> None:
    async with running(node("n"), CLASS, piece("s", "g"), pod("p", "c")) as (client, activity):
        assert not client.current(PODS, "p", "default")["spec"].get("nodeName")
        client.seed(claim(ask()))
        await activity.settle()
        assert client.current(PODS, "p", "default")["spec"]["nodeName"] == "n"


def partition(name: str, memory: str) -> dict[str, Any]:
    use = {"counterSet": "card", "counters": {"memory": {"value": memory}}}
    return {"name": name, "consumesCounters": [use]}


def test_partitions_share_what_their_card_has() -> None:
    card = {"name": "card", "counters": {"memory": {"value": "40Gi"}}}
    parts = [partition("whole", "40Gi"), partition("h1", "20Gi"), partition("h2", "20Gi")]
    slices = [piece("s", of=2, sharedCounters=[card]), piece("t", *parts, of=2)]
    assert names(allocate(claim(ask()), slices)) == ["whole"]
    assert names(allocate(claim(ask(count=2)), slices)) == ["h1", "h2"]
    assert names(allocate(claim(ask()), slices, {("d", "p", "h1")})) == ["h2"]
    assert allocate(claim(ask()), slices, {("d", "p", "whole")}) is None
