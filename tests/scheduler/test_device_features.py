"""Parts of devices, devices that must be attached, extended resources that are devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.testing import FakeClock, make_node, make_object, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.scheduler.plugins.device_allocator import (
    AllocationError,
    Allocator,
    Taken,
    requests_of,
)
from pilothouse.scheduler.plugins.device_capacity import CapacityError, fits, taken_by
from pilothouse.scheduler.plugins.device_pools import Device, gather
from pilothouse.scheduler.plugins.device_results import allocation_of, alternatives_score
from pilothouse.scheduler.plugins.device_selectors import Selectors
from pilothouse.scheduler.plugins.extended_resources import Requests, classes_by_resource
from pilothouse.scheduler.scheduler import Scheduler

API = "resource.k8s.io/v1"


def device_class(name: str = "gpu", **spec: Any) -> Any:
    return make_object(API, "DeviceClass", name, spec=spec)


def offer(*devices: Any, node: str = "n", **spec: Any) -> Any:
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "d", "pool": pool, "nodeName": node, "devices": list(devices)} | spec
    return make_object(API, "ResourceSlice", f"s-{node}", spec=spec)


def claim(*requests: Any, name: str = "c", **devices: Any) -> Any:
    made = make_object(API, "ResourceClaim", name, "default")
    made["metadata"]["uid"] = f"uid-{name}"
    made["spec"] = {"devices": {"requests": list(requests), **devices}}
    return made


def ask(name: str = "r", capacity: Any = None, **exactly: Any) -> Any:
    wanted = {"capacity": {"requests": capacity}} if capacity else {}
    return {"name": name, "exactly": {"deviceClassName": "gpu", **wanted, **exactly}}


def allocate(claims: Any, *slices: Any, taken: Taken | None = None, **classes: Any) -> Any:
    known = {"gpu": device_class()} | classes
    pools = gather(slices, "n", {})
    wanted = [requests_of(c, known.get) for c in claims]
    chosen = Allocator(pools, taken or Taken(), Selectors().matches).allocate(claims, wanted)
    if chosen is None:
        return None
    ids = iter(f"share-{i}" for i in range(99))
    return [
        allocation_of(c, own, "n", lambda: next(ids)) for c, own in zip(claims, chosen, strict=True)
    ]


# -- capacity ----------------------------------------------------------------------------

RANGE = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi", "max": "8Gi"}}
HALVES = {"validRange": {"min": "500m", "step": "250m"}}
VALUES = {"default": "1", "validValues": ["1", "2", "4"]}


def shared(policy: Any = None, value: str = "10Gi", name: str = "a", **more: Any) -> Any:
    capacity = {"memory": {"value": value} | ({"requestPolicy": policy} if policy else {})}
    return {"name": name, "allowMultipleAllocations": True, "capacity": capacity, **more}


@pytest.mark.parametrize(
    ("policy", "wanted", "taken"),
    [
        (None, None, "10Gi"),
        (None, "3Gi", "3Gi"),
        (RANGE, None, "1Gi"),
        (RANGE, "100Mi", "1Gi"),
        (RANGE, "1500Mi", "2Gi"),
        (RANGE, "9Gi", None),
        (HALVES, "600m", "750m"),
        (HALVES, "900m", "1"),
        (VALUES, "3", "4"),
        (VALUES, "5", None),
    ],
)
def test_capacity_is_rounded_by_policy(policy: Any, wanted: Any, taken: Any) -> None:
    device = Device("d", "p", "a", shared(policy), {})
    asked = {"memory": Quantity.parse(wanted)} if wanted else {}
    assert fits(device, asked, {}) == (taken is not None)
    if taken is not None:
        assert str(taken_by(device, asked)["memory"]) == taken


def test_what_no_device_can_mean_ends_the_search() -> None:
    device = Device("d", "p", "a", shared(RANGE), {})
    with pytest.raises(CapacityError, match="cannot be represented"):
        fits(device, {"memory": Quantity.parse("100Ei")}, {})
    with pytest.raises(AllocationError, match="cannot be represented"):
        allocate([claim(ask(capacity={"memory": "100Ei"}))], offer(shared(RANGE)))


def test_several_claims_have_parts_of_a_device() -> None:
    six = [claim(ask(capacity={"memory": "6Gi"}), name=n) for n in ("x", "y")]
    (first,) = allocate(six[:1], offer(shared()))
    assert first["devices"]["results"] == [
        {"request": "r", "driver": "d", "pool": "n", "device": "a", "shareID": "share-0",
         "consumedCapacity": {"memory": "6Gi"}}
    ]  # fmt: skip
    assert allocate(six, offer(shared())) is None
    both = allocate(six, offer(shared(), shared(name="b")))
    assert [r["device"] for a in both for r in a["devices"]["results"]] == ["a", "b"]
    taken = Taken()
    taken.add(first)
    assert allocate(six[:1], offer(shared()), taken=taken) is None
    assert allocate([claim(ask(capacity={"memory": "4Gi"}))], offer(shared()), taken=taken)
    assert allocate([claim(ask(capacity={"other": "1"}))], offer(shared())) is None


def test_shared_partitions_draw_on_their_card_once() -> None:
    use = {"counterSet": "card", "counters": {"x": {"value": "1"}}}
    card = {"name": "card", "counters": {"x": {"value": "1"}}}
    counters = offer(sharedCounters=[card], pool={"name": "n", "resourceSliceCount": 2})
    counters["metadata"]["name"] = "counters"
    devices = [shared(name=n, consumesCounters=[use]) for n in ("a", "b")]
    slices = (counters, offer(*devices, pool={"name": "n", "resourceSliceCount": 2}))
    parts = [claim(ask(capacity={"memory": "5Gi"}), name=n) for n in ("x", "y", "z")]
    found = allocate(parts[:2], *slices)
    assert [r["device"] for a in found for r in a["devices"]["results"]] == ["a", "a"]
    assert allocate(parts, *slices) is None


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3))
def test_capacity_is_never_given_out_twice(sizes: list[int], devices: int) -> None:
    claims = [claim(ask(capacity={"memory": str(n)}), name=f"c{i}") for i, n in enumerate(sizes)]
    found = allocate(claims, offer(*(shared(value="10", name=f"g{i}") for i in range(devices))))
    if found is None:
        assert sum(sizes) > 10 or devices == 1 or max(sizes) > 5
        return
    used: dict[str, int] = {}
    for result in (r for a in found for r in a["devices"]["results"]):
        amount = int(result["consumedCapacity"]["memory"])
        used[result["device"]] = used.get(result["device"], 0) + amount
    assert max(used.values()) <= 10
    assert sum(used.values()) == sum(sizes)


def test_all_devices_need_all_pools() -> None:
    everything = [claim(ask(allocationMode="All"))]
    updating = offer({"name": "b"}, pool={"name": "q", "resourceSliceCount": 2})
    with pytest.raises(AllocationError, match="resource pool d/q is currently being updated"):
        allocate(everything, offer({"name": "a"}), updating)
    broken = offer({"name": "b"}, {"name": "b"}, pool={"name": "q", "resourceSliceCount": 1})
    with pytest.raises(AllocationError, match="resource pool d/q is currently invalid"):
        allocate(everything, offer({"name": "a"}), broken)
    with pytest.raises(AllocationError, match="invalid resource pools were encountered"):
        allocate([claim(ask())], broken)


def test_configuration_of_classes_comes_once_and_for_all() -> None:
    opaque = {"opaque": {"driver": "d", "parameters": {"a": 1}}}
    gpu = device_class(config=[opaque])
    other = {"requests": ["y"], **opaque}
    (found,) = allocate(
        [claim(ask("x"), ask("y"), config=[other])], offer({"name": "a"}, {"name": "b"}), gpu=gpu
    )
    assert found["devices"]["config"] == [
        {"source": "FromClass", **opaque},
        {"source": "FromClaim", "requests": ["y"], **opaque},
    ]


def test_better_alternatives_score_more() -> None:
    subs = [{"name": "big", "deviceClassName": "gpu"}, {"name": "small", "deviceClassName": "gpu"}]
    wanted = claim({"name": "r", "firstAvailable": subs})
    scores = [
        alternatives_score(wanted, {"devices": {"results": [{"request": f"r/{n}"}]}})
        for n in ("big", "small", "none")
    ]
    assert scores == [8, 7, 0]


# -- extended resources ------------------------------------------------------------------


def test_the_oldest_class_stands_behind_a_resource() -> None:
    classes = [device_class(n, extendedResourceName="e.com/gpu") for n in ("b", "a", "young")]
    for each, stamp in zip(classes, ("1", "1", "2"), strict=True):
        each["metadata"]["creationTimestamp"] = stamp
    found = classes_by_resource(classes)
    assert found["e.com/gpu"]["metadata"]["name"] == "a"
    assert found["deviceclass.resource.kubernetes.io/young"] is classes[2]


def container(name: str, count: int, **more: Any) -> Any:
    return {"name": name, "resources": {"requests": {"cpu": "1", "e.com/gpu": str(count)}}, **more}


def test_init_containers_use_what_later_ones_ask_for() -> None:
    pod = make_pod("p")
    pod["spec"]["initContainers"] = [
        container("small", 1), container("large", 3),
        container("sidecar", 1, restartPolicy="Always"), container("late", 2),
    ]  # fmt: skip
    pod["spec"]["containers"] = [container("main", 1)]
    made = Requests(pod)
    made.add("e.com/gpu", "gpu")
    counts = {r["name"]: r["exactly"]["count"] for r in made.requests}
    assert counts == {
        "container-1-request-1": 1, "container-2-request-1": 1, "container-4-request-1": 1,
    }  # fmt: skip
    used = [(m["containerName"], m["requestName"]) for m in made.mappings]
    assert used == [
        ("sidecar", "container-2-request-1"),
        ("main", "container-4-request-1"),
        ("small", "container-2-request-1"),
        ("large", "container-2-request-1"),
        ("large", "container-4-request-1"),
        ("large", "container-1-request-1"),
        ("late", "container-4-request-1"),
        ("late", "container-1-request-1"),
    ]


# -- the whole scheduler -----------------------------------------------------------------


@asynccontextmanager
async def running(*objects: Any) -> AsyncIterator[Any]:
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
        yield client, clock, activity
    finally:
        await scheduler.stop()
        await informers.stop()


def node(name: str) -> Any:
    made = make_node(name)
    made["status"] = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
    return made


def uses(name: str, claim_name: str) -> Any:
    pod = wants(name, 0)
    pod["spec"]["resourceClaims"] = [{"name": "r", "resourceClaimName": claim_name}]
    return pod


def wants(name: str, count: int = 1) -> Any:
    pod = make_pod(name)
    pod["metadata"]["uid"] = f"uid-{name}"
    pod["spec"].pop("nodeName", None)
    pod["spec"]["containers"][0] |= container("main", count)
    return pod


async def test_extended_resources_become_a_claim() -> None:
    gpu = device_class(extendedResourceName="e.com/gpu")
    own = node("own")
    own["status"]["allocatable"]["e.com/gpu"] = "1"
    objects = (node("n"), gpu, offer({"name": "a"}, {"name": "b"}), wants("p", 2))
    async with running(*objects) as (client, _, activity):
        pod = client.current(PODS, "p", "default")
        assert pod["spec"]["nodeName"] == "n"
        known = pod["status"]["extendedResourceClaimStatus"]
        assert known["requestMappings"] == [
            {"containerName": "main", "resourceName": "e.com/gpu",
             "requestName": "container-0-request-1"}
        ]  # fmt: skip
        made = client.current(RESOURCE_CLAIMS, known["resourceClaimName"], "default")
        assert made["metadata"]["annotations"] == {
            "resource.kubernetes.io/extended-resource-claim": "true"
        }
        assert made["spec"]["devices"]["requests"][0]["exactly"]["count"] == 2
        assert made["status"]["reservedFor"][0]["uid"] == "uid-p"
        # Nothing left; but a node with a device plugin has its own.
        client.seed(wants("q"))
        await activity.settle()
        refused = condition_of(client.current(PODS, "q", "default"), "PodScheduled")
        assert "cannot allocate all claims" in refused["message"]
        client.seed(own)
        await activity.settle()
        pod = client.current(PODS, "q", "default")
        assert pod["spec"]["nodeName"] == "own"
        assert "extendedResourceClaimStatus" not in pod["status"]


async def test_a_class_makes_a_resource_possible() -> None:
    async with running(node("n"), offer({"name": "a"}), wants("p")) as (client, _, activity):
        refused = condition_of(client.current(PODS, "p", "default"), "PodScheduled")
        assert "Insufficient e.com/gpu" in refused["message"]
        client.seed(device_class(extendedResourceName="e.com/gpu"))
        await activity.settle()
        assert client.current(PODS, "p", "default")["spec"]["nodeName"] == "n"
        assert client.current(DEVICE_CLASSES, "gpu")


ATTACHED: Any = {
    "name": "a", "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"],
    "bindsToNode": True,
}  # fmt: skip


def report(client: Any, type_: str) -> None:
    """The driver tells about the device."""
    now = copy_object(client.current(RESOURCE_CLAIMS, "c", "default"))
    conditions = [{"type": type_, "status": "True", "reason": "R", "message": "m"}]
    now["status"]["devices"] = [
        {"driver": "d", "pool": "n", "device": "a", "conditions": conditions}
    ]
    client.seed(now)


async def test_pods_wait_until_devices_are_attached() -> None:
    objects = (node("n"), device_class(), offer(ATTACHED), claim(ask()), uses("p", "c"))
    async with running(*objects) as (client, _, activity):
        current = client.current(RESOURCE_CLAIMS, "c", "default")
        (result,) = current["status"]["allocation"]["devices"]["results"]
        assert result["bindingConditions"] == ["Attached"]
        assert current["status"]["allocation"]["allocationTimestamp"]
        assert not client.current(PODS, "p", "default")["spec"].get("nodeName")
        report(client, "Attached")
        await activity.settle()
        assert client.current(PODS, "p", "default")["spec"]["nodeName"] == "n"


async def test_devices_that_fail_are_given_back() -> None:
    objects = (node("n"), node("m"), device_class(), claim(ask()), uses("p", "c"))
    slices = (offer(ATTACHED), offer({"name": "b"}, node="m"))
    async with running(*objects, slices[0]) as (client, clock, activity):
        client.seed(slices[1])
        report(client, "Broken")
        await activity.settle()
        condition = condition_of(client.current(PODS, "p", "default"), "PodScheduled")
        assert "device binding failed: claim=c, reason=R" in condition["message"]
        clock.advance(10)
        await activity.settle()
        clock.advance(10)
        await activity.settle()
        assert client.current(PODS, "p", "default")["spec"]["nodeName"] == "m"


async def test_attaching_takes_ten_minutes_at_most() -> None:
    objects = (node("n"), device_class(), offer(ATTACHED), claim(ask()), uses("p", "c"))
    async with running(*objects) as (client, clock, activity):
        clock.advance(601)
        await activity.settle()
        condition = condition_of(client.current(PODS, "p", "default"), "PodScheduled")
        assert "device binding timeout" in condition["message"]


async def test_a_broken_selector_stops_the_pod_on_all_nodes() -> None:
    """It would be harder to see if it went where the selector happens to work."""
    chosen = [{"cel": {"expression": "device.attributes['d'].exists"}}]
    good = {"name": "a", "attributes": {"exists": {"bool": True}}}
    objects = (node("n"), node("m"), device_class(), claim(ask(selectors=chosen)), uses("p", "c"))
    slices = (offer(good), offer({"name": "b"}, node="m"))
    async with running(*objects, *slices) as (client, _, _activity):
        pod = client.current(PODS, "p", "default")
        assert not pod["spec"].get("nodeName")
        condition = condition_of(pod, "PodScheduled")
        assert condition["reason"] == "SchedulerError"
        assert (
            'running "DynamicResources" filter plugin: claim default/c: selector #0 on '
            in (condition["message"])
        )
        assert "CEL runtime error" in condition["message"]
