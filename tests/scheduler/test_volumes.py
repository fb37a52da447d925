"""VolumeBinding, VolumeZone, VolumeRestrictions and NodeVolumeLimits against a fake API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import FakeClock, make_node, make_object, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
)
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.scheduler.scheduler import Scheduler

SELECTED = "volume.kubernetes.io/selected-node"
DONE = {"pv.kubernetes.io/bind-completed": "yes"}
HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"


def node(name: str, **labels: str) -> dict[str, Any]:
    made = make_node(name)
    made["metadata"]["labels"] = {HOST: name, **labels}
    made["status"] = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
    return made


def pod(name: str = "p", claim: str = "c", node_name: str = "") -> dict[str, Any]:
    made = make_pod(name)
    made["metadata"]["uid"] = f"uid-{name}"
    made["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
    made["spec"].pop("nodeName", None)
    if node_name:
        made["spec"]["nodeName"] = node_name
    return made


def claim(
    name: str = "c", cls: str = "wait", volume: str = "", modes: tuple[str, ...] = ("RWO",)
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": list(modes), "storageClassName": cls,
        "resources": {"requests": {"storage": "1Gi"}},
    }  # fmt: skip
    made = make_object("v1", "PersistentVolumeClaim", name, "default", spec=spec)
    made["metadata"]["uid"] = f"uid-{name}"
    if volume:
        spec["volumeName"] = volume
        made["metadata"]["annotations"] = dict(DONE)
        made["status"] = {"phase": "Bound"}
    return made


def volume(name: str = "v", on: str = "", size: str = "1Gi", **fields: Any) -> dict[str, Any]:
    labels = fields.pop("labels", {})
    spec = {"capacity": {"storage": size}, "accessModes": ["RWO"], "storageClassName": "wait"}
    if on:
        expression = {"key": HOST, "operator": "In", "values": [on]}
        terms = [{"matchExpressions": [expression]}]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    made = make_object("v1", "PersistentVolume", name, spec={**spec, **fields})
    made["metadata"]["labels"] = labels
    made["status"] = {"phase": "Available"}
    return made


def storage_class(name: str = "wait", mode: str = "WaitForFirstConsumer", **fields: Any) -> Any:
    made = make_object("storage.k8s.io/v1", "StorageClass", name)
    return made | {"provisioner": "example.com/x", "volumeBindingMode": mode} | fields


NO_PROVISIONER = storage_class(provisioner="kubernetes.io/no-provisioner")


class World:
    def __init__(self, *objects: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(clock=self.clock)
        for obj in objects:
            self.client.seed(obj)
        self.client.react("create", "pods/binding", self._bind)
        self.activity = ActivityTracker()
        random = Random(1)
        informers = SharedInformerFactory(self.client, self.clock, random, self.activity)
        self.env = Environment(self.client, informers, self.clock, random, self.activity)
        self.scheduler = Scheduler(self.env)

    def _bind(self, action: Any) -> Any:
        bound = copy_object(self.client.current(PODS, action.name, action.namespace))
        bound["spec"]["nodeName"] = action.object["target"]["name"]
        self.client.seed(bound)
        return action.object

    def node_of(self, name: str = "p") -> str:
        found = self.client.current(PODS, name, "default")
        assert found is not None
        return str(found["spec"].get("nodeName") or "")

    def refusal(self, name: str = "p") -> str:
        found = self.client.current(PODS, name, "default")
        assert found is not None
        condition = condition_of(found, "PodScheduled") or {}
        return str(condition.get("message") or "")

    async def finish_binding(self) -> None:
        """What the binder does with what the scheduler has decided."""
        for bound in self.client.objects(PERSISTENT_VOLUMES):
            reference = bound["spec"].get("claimRef")
            if reference:
                await self._complete(reference["name"], bound["metadata"]["name"])

    async def _complete(self, name: str, volume_name: str) -> None:
        mine = copy_object(self.client.current(PERSISTENT_VOLUME_CLAIMS, name, "default"))
        mine["spec"]["volumeName"] = volume_name
        mine["metadata"].setdefault("annotations", {}).update(DONE)
        await self.client.update(PERSISTENT_VOLUME_CLAIMS, mine)
        await self.activity.settle()

    async def provision(self, name: str, on: str) -> None:
        await self.client.create(PERSISTENT_VOLUMES, volume(f"made-{name}", on))
        await self._complete(name, f"made-{name}")


@asynccontextmanager
async def running(*objects: dict[str, Any]) -> AsyncIterator[World]:
    world = World(*objects)
    await world.scheduler.start()
    try:
        await world.activity.settle()
        yield world
    finally:
        await world.scheduler.stop()
        await world.env.informers.stop()


async def test_a_bound_volume_decides_the_node() -> None:
    async with running(
        node("a"), node("b"), storage_class(), volume("v", "b"), claim(volume="v"), pod()
    ) as world:
        assert world.node_of() == "b"


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([], 'persistentvolumeclaim "c" not found'),
        ([claim(cls="now"), storage_class("now", "Immediate")],
         "pod has unbound immediate PersistentVolumeClaims"),
        ([claim() | {"status": {"phase": "Lost"}}], "bound to non-existent persistentvolume"),
        ([claim(volume="gone")], 'persistentvolume "gone" not found'),
        ([claim(volume="v"), volume("v", "elsewhere")],
         "2 node(s) didn't match PersistentVolume's node affinity"),
        ([claim(), NO_PROVISIONER],
         "2 node(s) didn't find available persistent volumes to bind"),
    ],
)  # fmt: skip
async def test_refusals(objects: list[Any], reason: str) -> None:
    async with running(node("a"), node("b"), pod(), *objects) as world:
        assert world.node_of() == ""
        assert reason in world.refusal()


async def test_waiting_claim_is_bound_to_a_volume_of_the_chosen_node() -> None:
    async with running(
        node("a"), node("b"), NO_PROVISIONER, volume("v", "b"), claim(), pod()
    ) as world:
        assert world.node_of() == "", "only the volume is promised yet"
        promised = world.client.current(PERSISTENT_VOLUMES, "v")["spec"]["claimRef"]
        assert promised["name"] == "c" and promised["uid"] == "uid-c"
        await world.finish_binding()
        assert world.node_of() == "b"


async def test_waiting_claim_is_provisioned_on_the_chosen_node() -> None:
    async with running(node("a"), storage_class(), claim(), pod()) as world:
        current = world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        assert current["metadata"]["annotations"][SELECTED] == "a"
        await world.provision("c", "a")
        assert world.node_of() == "a"


async def test_one_volume_is_not_promised_twice() -> None:
    async with running(
        node("a"), NO_PROVISIONER, volume("v", "a"), claim("c"), claim("d"),
        pod("p", "c"), pod("q", "d"),
    ) as world:  # fmt: skip
        await world.finish_binding()
        placed = [name for name in ("p", "q") if world.node_of(name)]
        assert len(placed) == 1
        (other,) = {"p", "q"} - set(placed)
        assert "didn't find available persistent volumes" in world.refusal(other)
        # And one more volume is all that was missing.
        await world.client.create(PERSISTENT_VOLUMES, volume("w", "a"))
        await world.activity.settle()
        await world.clock.advance_through(30)
        await world.activity.settle()
        await world.finish_binding()
        assert world.node_of(other) == "a"


async def test_failed_provisioning_frees_the_decision() -> None:
    async with running(node("a"), storage_class(), claim(), pod()) as world:
        undone = copy_object(world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default"))
        del undone["metadata"]["annotations"][SELECTED]
        await world.client.update(PERSISTENT_VOLUME_CLAIMS, undone)
        await world.activity.settle()
        assert 'provisioning failed for PVC "c"' in world.refusal()
        await world.clock.advance_through(30)
        await world.activity.settle()
        current = world.client.current(PERSISTENT_VOLUME_CLAIMS, "c", "default")
        assert current["metadata"]["annotations"][SELECTED] == "a", "tried again"


async def test_nobody_binds_for_ten_minutes() -> None:
    async with running(node("a"), storage_class(), claim(), pod()) as world:
        await world.clock.advance_through(601)
        await world.activity.settle()
        assert "binding volumes: context deadline exceeded" in world.refusal()


async def test_zone_of_the_volume() -> None:
    async with running(
        node("a", **{ZONE: "z1"}), node("b", **{ZONE: "z2"}), storage_class(),
        volume("v", labels={ZONE: "z2__z3"}), claim(volume="v"), pod(),
    ) as world:  # fmt: skip
        assert world.node_of() == "b"
    async with running(
        node("a", **{ZONE: "z1"}), storage_class(), volume("v", labels={ZONE: "z2"}),
        claim(volume="v"), pod(),
    ) as world:  # fmt: skip
        assert "1 node(s) had no available volume zone" in world.refusal()


async def test_read_write_once_pod() -> None:
    only = claim(volume="v", modes=("ReadWriteOncePod",))
    async with running(
        node("a"), node("b"), storage_class(), volume("v"), only, pod("first", node_name="a"),
        pod("p"),
    ) as world:  # fmt: skip
        assert "ReadWriteOncePod access mode already in-use by another pod" in world.refusal()
        world.client.remove(PODS, "first", "default")
        await world.activity.settle()
        await world.clock.advance_through(30)
        await world.activity.settle()
        assert world.node_of()


async def test_volume_limits_of_a_driver() -> None:
    csi_node = make_object("storage.k8s.io/v1", "CSINode", "a")
    csi_node["spec"] = {"drivers": [{"name": "d", "allocatable": {"count": 1}}]}

    def csi(name: str) -> dict[str, Any]:
        return volume(name, csi={"driver": "d", "volumeHandle": name})

    async with running(
        node("a"), csi_node, storage_class(), csi("v"), csi("w"), claim("c", volume="v"),
        claim("d", volume="w"), pod("first", "c", "a"), pod("same", "c"), pod("p", "d"),
    ) as world:  # fmt: skip
        assert world.node_of("same") == "a", "a volume counts once"
        assert "1 node(s) exceed max volume count" in world.refusal()


async def test_the_volume_that_fits_best_leaves_most_room() -> None:
    async with running(
        node("a"), node("b"), NO_PROVISIONER, volume("tight", "a"), volume("wide", "b", "100Gi"),
        claim(), pod(),
    ) as world:  # fmt: skip
        await world.finish_binding()
        assert world.node_of() == "b", "less of it is used"
