"""ResourceClaims of pods, and eviction from tainted devices."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.testing import make_object, make_pod
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.device_taint_eviction import (
    DeviceTaintEvictionController,
    Taint,
    eviction_time,
    slice_taints,
)
from pilothouse.controllermanager.resource_claim import (
    FINALIZER,
    ResourceClaimController,
    make_claim,
)
from pilothouse.kubeclient.resources import DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS

API = "resource.k8s.io/v1"
DEVICE = {"driver": "d", "pool": "p", "device": "gpu"}


def pod(name="p", phase="Running", **entry):
    made = make_pod(name)
    made["metadata"]["uid"] = f"uid-{name}"
    made["spec"] |= {"nodeName": "n", "resourceClaims": [{"name": "r", **entry}]}
    made["status"] = {"phase": phase}
    return made


def claim(name="c", reserved=("p",), allocated=True, **metadata):
    made = make_object(API, "ResourceClaim", name, "default", spec={"devices": {}})
    made["metadata"] |= metadata
    made["status"] = {}
    if reserved:
        made["status"]["reservedFor"] = [
            {"resource": "pods", "name": n, "uid": f"uid-{n}"} for n in reserved
        ]
    if allocated:
        made["status"]["allocation"] = {"devices": {"results": [dict(DEVICE)]}}
    return made


async def test_claim_is_made_from_the_template_once(world):
    template = make_object(API, "ResourceClaimTemplate", "t", "default")
    template["spec"] = {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": []}}}
    world.client.seed(template)
    await world.run(ResourceClaimController(world.env))
    world.client.seed(pod(resourceClaimTemplateName="t"))
    await world.settle()
    (made,) = world.client.objects(RESOURCE_CLAIMS)
    assert made["metadata"]["name"].startswith("p-r-")
    assert made["metadata"]["annotations"] == {"resource.kubernetes.io/pod-claim-name": "r"}
    statuses = world.client.current(PODS, "p", "default")["status"]["resourceClaimStatuses"]
    assert statuses == [{"name": "r", "resourceClaimName": made["metadata"]["name"]}]


async def test_missing_template_is_told(world):
    world.client.seed(pod(resourceClaimTemplateName="t"))
    await world.run(ResourceClaimController(world.env))
    assert world.client.events()[0][:2] == ("Warning", "FailedResourceClaimCreation")


@pytest.mark.parametrize("length", [10, 60, 240])
def test_generated_names_leave_room(length):
    made = make_claim(pod("x" * length), "r" * 40, {})
    assert len(made["metadata"]["generateName"]) <= 58


async def test_done_pods_are_forgotten_and_devices_freed(world):
    world.client.seed(claim(reserved=["p", "gone"], finalizers=[FINALIZER]))
    world.client.seed(pod(resourceClaimName="c"))
    await world.run(ResourceClaimController(world.env))
    current = world.client.current(RESOURCE_CLAIMS, "c", "default")
    assert [r["name"] for r in current["status"]["reservedFor"]] == ["p"]
    assert "allocation" in current["status"]
    world.client.seed(pod(phase="Succeeded", resourceClaimName="c"))
    await world.settle()
    current = world.client.current(RESOURCE_CLAIMS, "c", "default")
    assert not current["status"].get("reservedFor") and "allocation" not in current["status"]
    assert FINALIZER not in (current["metadata"].get("finalizers") or ())


async def test_pod_that_was_placed_by_hand_gets_its_reservation(world):
    world.client.seed(claim(reserved=()))
    world.client.seed(pod(resourceClaimName="c"))
    await world.run(ResourceClaimController(world.env))
    (reserved,) = world.client.current(RESOURCE_CLAIMS, "c", "default")["status"]["reservedFor"]
    assert reserved == {"resource": "pods", "name": "p", "uid": "uid-p"}


# Taints.


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], 100.0),
        ([{"key": "k", "value": "v"}], None),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 30}], 130.0),
        ([{"key": "other", "operator": "Exists"}], 100.0),
        ([{"operator": "Exists", "effect": "NoSchedule"}], 100.0),
        ([{"operator": "Exists", "tolerationSeconds": -5}], 100.0),
    ],
)
def test_when_a_pod_must_go(tolerations, expected):
    assert eviction_time({"tolerations": tolerations}, [Taint("k", "v", 100.0)]) == expected


def test_only_the_newest_generation_of_a_pool_counts():
    def piece(generation, taints):
        return {"spec": {"driver": "d", "pool": {"name": "p", "generation": generation},
                         "devices": [{"name": "gpu", "taints": taints}]}}  # fmt: skip

    assert slice_taints([piece(1, [{"key": "old"}]), piece(2, [])], DEVICE) == []
    assert slice_taints([piece(3, [{"key": "new"}])], DEVICE) == [{"key": "new"}]


async def test_rule_evicts_and_tells_how_far_it_is(world):
    world.client.seed(claim())
    world.client.seed(pod(resourceClaimName="c"))
    await world.run(DeviceTaintEvictionController(world.env))
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": format_time(world.clock.now())}
    rule = make_object(API, "DeviceTaintRule", "r",
                       spec={"deviceSelector": {"driver": "d"}, "taint": taint})  # fmt: skip
    await world.client.create(DEVICE_TAINT_RULES, rule)
    await world.settle()
    assert world.client.current(PODS, "p", "default") is None
    await world.advance(11)
    condition = condition_of(world.client.current(DEVICE_TAINT_RULES, "r"), "EvictionInProgress")
    assert (condition["status"], condition["reason"]) == ("False", "Completed")
    assert condition["message"] == "1 pod evicted since starting the controller."
