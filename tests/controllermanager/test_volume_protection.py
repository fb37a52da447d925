"""Deleted claims, volumes and attribute classes go when nothing uses them."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.testing import make_object, make_pod
from pilothouse.controllermanager.volume_protection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
    unused_condition,
)
from pilothouse.kubeclient.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTRIBUTES_CLASSES,
)

DELETED = "2026-01-01T00:00:00Z"


def guarded(api_version, kind, name, finalizer, namespace="", **fields):
    obj = make_object(api_version, kind, name, namespace, **fields)
    obj["metadata"] |= {"finalizers": [finalizer], "deletionTimestamp": DELETED}
    return obj


def claim(name="c", **fields):
    return guarded(
        "v1", "PersistentVolumeClaim", name, "kubernetes.io/pvc-protection", "default", **fields
    )


def pod_with_claim(node):
    pod = make_pod("p")
    pod["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    if node:
        pod["spec"]["nodeName"] = node
    else:
        pod["spec"].pop("nodeName", None)
    return pod


async def test_claim_stays_while_a_scheduled_pod_uses_it(world):
    world.client.seed(pod_with_claim("n"))
    world.client.seed(claim())
    await world.run(ClaimProtectionController(world.env))
    assert world.client.objects(PERSISTENT_VOLUME_CLAIMS)[0]["metadata"]["finalizers"]
    world.client.remove(PODS, "p", "default")
    await world.settle()
    assert not world.client.objects(PERSISTENT_VOLUME_CLAIMS)


async def test_pod_without_a_node_does_not_hold_a_claim(world):
    world.client.seed(pod_with_claim(""))
    world.client.seed(claim())
    await world.run(ClaimProtectionController(world.env))
    assert not world.client.objects(PERSISTENT_VOLUME_CLAIMS)


@pytest.mark.parametrize(("phase", "left"), [("Bound", 1), ("Available", 0)])
async def test_bound_volume_stays(world, phase, left):
    volume = guarded("v1", "PersistentVolume", "v", "kubernetes.io/pv-protection")
    world.client.seed(volume | {"status": {"phase": phase}})
    await world.run(VolumeProtectionController(world.env))
    assert len(world.client.objects(PERSISTENT_VOLUMES)) == left


async def test_attributes_class_stays_while_a_claim_has_it(world):
    api = "storage.k8s.io/v1"
    world.client.seed(guarded(api, "VolumeAttributesClass", "gold", "kubernetes.io/vac-protection"))
    world.client.seed(
        make_object(
            "v1", "PersistentVolumeClaim", "c", "default",
            spec={"volumeAttributesClassName": "gold"},
        )
    )  # fmt: skip
    await world.run(AttributesClassProtectionController(world.env))
    assert world.client.objects(VOLUME_ATTRIBUTES_CLASSES)
    world.client.remove(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    await world.settle()
    assert not world.client.objects(VOLUME_ATTRIBUTES_CLASSES)


async def test_missing_finalizer_is_added(world):
    world.client.seed(make_object("v1", "PersistentVolume", "v"))
    await world.run(VolumeProtectionController(world.env))
    (volume,) = world.client.objects(PERSISTENT_VOLUMES)
    assert volume["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]


@pytest.mark.parametrize(
    ("told", "used", "written"),
    [
        (None, False, "True"),
        (None, True, "False"),
        ("True", True, "False"),
        ("False", False, "True"),
        ("True", False, None),
        ("False", True, None),
    ],
)
def test_a_claim_tells_whether_pods_refer_to_it(
    told: str | None, used: bool, written: str | None
) -> None:
    conditions = [] if told is None else [{"type": "Unused", "status": told}]
    condition = unused_condition({"status": {"conditions": conditions}}, used, "now")
    assert (condition and condition["status"]) == written
