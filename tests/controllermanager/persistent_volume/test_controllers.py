"""Binder, provisioner, expander and ephemeral claims together, against a fake API."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_node, make_object, make_pod
from pilothouse.controllermanager.persistent_volume.binder import PersistentVolumeBinder
from pilothouse.controllermanager.persistent_volume.ephemeral import EphemeralVolumeController
from pilothouse.controllermanager.persistent_volume.expand import VolumeExpander
from pilothouse.controllermanager.persistent_volume.local_path import (
    LocalPathProvisioner,
    default_storage_class,
    make_volume,
    pick_node,
)
from pilothouse.kubeclient.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)

SELECTED = "volume.kubernetes.io/selected-node"


def claim(name="c", size="1Gi", cls="", **spec):
    spec = {
        "accessModes": ["ReadWriteOnce"], "storageClassName": cls,
        "resources": {"requests": {"storage": size}}, **spec,
    }  # fmt: skip
    return make_object("v1", "PersistentVolumeClaim", name, "default", spec=spec)


def volume(name="v", size="1Gi", policy="Retain", **spec):
    spec = {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": policy, "hostPath": {"path": "/data"}, **spec,
    }  # fmt: skip
    return make_object("v1", "PersistentVolume", name, spec=spec)


def node(name):
    made = make_node(name)
    made["metadata"]["labels"] = {"kubernetes.io/hostname": f"host-{name}"}
    made["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    return made


def phase(world, resource, name, namespace=""):
    return world.client.current(resource, name, namespace).get("status", {}).get("phase")


async def test_claim_and_volume_find_each_other_in_either_order(world):
    await world.run(PersistentVolumeBinder(world.env))
    await world.client.create(PERSISTENT_VOLUME_CLAIMS, claim(), "default")
    await world.settle()
    assert phase(world, PERSISTENT_VOLUME_CLAIMS, "c", "default") == "Pending"
    await world.client.create(PERSISTENT_VOLUMES, volume(size="2Gi"))
    await world.settle()
    bound = world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert bound["spec"]["volumeName"] == "v"
    assert bound["status"] == {
        "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
    }  # fmt: skip
    assert phase(world, PERSISTENT_VOLUMES, "v") == "Bound"
    assert world.client.current(PERSISTENT_VOLUMES, "v")["spec"]["claimRef"]["name"] == "c"


async def test_two_claims_never_get_one_volume(world):
    await world.run(PersistentVolumeBinder(world.env))
    for i in range(6):
        await world.client.create(PERSISTENT_VOLUME_CLAIMS, claim(f"c{i}"), "default")
    for i in range(4):
        await world.client.create(PERSISTENT_VOLUMES, volume(f"v{i}"))
    await world.settle()
    claims = world.client.objects(PERSISTENT_VOLUME_CLAIMS)
    taken = [c["spec"]["volumeName"] for c in claims if c["spec"].get("volumeName")]
    assert sorted(taken) == ["v0", "v1", "v2", "v3"]


@pytest.mark.parametrize(
    ("policy", "expected", "event"),
    [
        ("Retain", "Released", None),
        ("Recycle", "Failed", "VolumeFailedRecycle"),
        ("Delete", "Failed", "VolumeFailedDelete"),
    ],
)
async def test_released_volumes(world, policy, expected, event):
    await world.run(PersistentVolumeBinder(world.env))
    await world.client.create(PERSISTENT_VOLUMES, volume(policy=policy))
    await world.client.create(PERSISTENT_VOLUME_CLAIMS, claim(), "default")
    await world.settle()
    await world.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    await world.settle()
    assert phase(world, PERSISTENT_VOLUMES, "v") == expected
    reasons = [reason for _, reason, _ in world.client.events()]
    assert event is None or event in reasons


async def test_claim_that_lost_its_volume_is_told_so(world):
    await world.run(PersistentVolumeBinder(world.env))
    await world.client.create(PERSISTENT_VOLUMES, volume())
    await world.client.create(PERSISTENT_VOLUME_CLAIMS, claim(), "default")
    await world.settle()
    world.client.remove(PERSISTENT_VOLUMES, "v")
    await world.settle()
    assert phase(world, PERSISTENT_VOLUME_CLAIMS, "c", "default") == "Lost"
    assert "ClaimLost" in [reason for _, reason, _ in world.client.events()]


async def test_local_path_from_claim_to_deletion(world, tmp_path):
    root = str(tmp_path)
    world.client.seed(node("a"))
    world.client.seed(node("b"))
    await world.client.create(STORAGE_CLASSES, default_storage_class())
    await world.run(
        PersistentVolumeBinder(world.env), LocalPathProvisioner(world.env, root=root),
        VolumeExpander(world.env),
    )  # fmt: skip
    await world.client.create(PERSISTENT_VOLUME_CLAIMS, claim(cls="standard"), "default")
    await world.settle()
    assert world.client.objects(PERSISTENT_VOLUMES) == []  # waits for a pod's node
    await annotate(world, {SELECTED: "b"})
    (made,) = world.client.objects(PERSISTENT_VOLUMES)
    path = made["spec"]["hostPath"]["path"]
    assert path.startswith(f"{root}/b/local-path/pvc-")
    terms = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["host-b"]
    assert phase(world, PERSISTENT_VOLUME_CLAIMS, "c", "default") == "Bound"

    grown = copy_object(world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default"))
    grown["spec"]["resources"]["requests"]["storage"] = "5Gi"
    await world.client.update(PERSISTENT_VOLUME_CLAIMS, grown)
    await world.settle()
    assert world.client.objects(PERSISTENT_VOLUMES)[0]["spec"]["capacity"]["storage"] == "5Gi"
    current = world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert current["status"]["capacity"]["storage"] == "5Gi"

    folder = tmp_path / path[len(root) + 1 :]
    folder.mkdir(parents=True)
    (folder / "file").write_text("data")
    await world.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    await world.settle()
    assert world.client.objects(PERSISTENT_VOLUMES) == []
    assert not folder.exists() and folder.parent.exists()


async def annotate(world, annotations):
    changed = copy_object(world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default"))
    changed["metadata"].setdefault("annotations", {}).update(annotations)
    await world.client.update(PERSISTENT_VOLUME_CLAIMS, changed)
    await world.settle()


async def test_node_that_is_gone_is_selected_anew(world, tmp_path):
    await world.client.create(STORAGE_CLASSES, default_storage_class())
    await world.run(
        PersistentVolumeBinder(world.env), LocalPathProvisioner(world.env, root=str(tmp_path))
    )
    await world.client.create(PERSISTENT_VOLUME_CLAIMS, claim(cls="standard"), "default")
    await world.settle()
    await annotate(world, {SELECTED: "gone"})
    current = world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert SELECTED not in current["metadata"]["annotations"]
    assert world.client.objects(PERSISTENT_VOLUMES) == []


async def test_only_own_directories_are_removed(world, tmp_path):
    """A volume object that claims to be ours may point anywhere."""
    precious = tmp_path / "precious"
    precious.mkdir()
    bad = volume(policy="Delete", hostPath={"path": str(precious)})
    bad["metadata"]["annotations"] = {
        "pv.kubernetes.io/provisioned-by": "pilothouse.dev/local-path"
    }
    world.client.seed(bad | {"status": {"phase": "Released"}})
    await world.run(LocalPathProvisioner(world.env, root=str(tmp_path / "nodes")))
    assert precious.exists() and world.client.objects(PERSISTENT_VOLUMES) == []


def test_node_with_the_fewest_volumes_is_picked():
    made = make_volume(claim(cls="standard"), default_storage_class(), node("a"), "/r")
    assert pick_node([node("a"), node("b")], [made])["metadata"]["name"] == "b"
    assert pick_node([node("a") | {"spec": {"unschedulable": True}}], []) is None


async def test_ephemeral_claims(world):
    pod = make_pod("p")
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    }
    pod["metadata"]["uid"] = "pod-uid"
    pod["spec"]["volumes"] = [{"name": "e", "ephemeral": {"volumeClaimTemplate": template}}]
    await world.run(EphemeralVolumeController(world.env))
    world.client.seed(pod)
    await world.settle()
    (made,) = world.client.objects(PERSISTENT_VOLUME_CLAIMS)
    assert made["metadata"]["name"] == "p-e" and made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "pod-uid"
    world.client.remove(PERSISTENT_VOLUME_CLAIMS, "p-e", "default")
    await world.settle()
    assert world.client.objects(PERSISTENT_VOLUME_CLAIMS)  # made again while the pod is there
    world.client.remove(PODS, "p", "default")


async def test_foreign_claim_is_not_taken(world):
    world.client.seed(claim("p-e"))
    pod = make_pod("p")
    pod["spec"]["volumes"] = [{"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]
    world.client.seed(pod)
    await world.run(EphemeralVolumeController(world.env))
    events = world.client.events()
    assert any("PVC default/p-e was not created for pod default/p" in e[2] for e in events)
