"""StatefulSets: order, identity, updates, claims."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_container, make_workload
from pilothouse.controllermanager.statefulset.controller import StatefulSetController
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS

CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def stateful_set(replicas=3, image="v1", **spec):
    return make_workload(
        "StatefulSet", "s", replicas=replicas, uid="ss", containers=[make_container(image=image)],
        spec={
            "serviceName": "svc", "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
        } | spec,
    )  # fmt: skip


@pytest.fixture
async def cluster(world):
    await world.run(StatefulSetController(world.env))
    return world


async def create(world, **options):
    await world.client.create(STATEFUL_SETS, stateful_set(**options), "default")
    await world.settle()


def names(world):
    return [p["metadata"]["name"] for p in world.client.objects(PODS)]


def images(world):
    return [p["spec"]["containers"][0]["image"] for p in world.client.objects(PODS)]


def status(world):
    return world.client.current(STATEFUL_SETS, "s", "default")["status"]


async def update(world, image=None, **spec):
    new = copy_object(world.client.current(STATEFUL_SETS, "s", "default"))
    new["spec"] |= spec
    if image:
        new["spec"]["template"]["spec"]["containers"][0]["image"] = image
    await world.client.update(STATEFUL_SETS, new)
    await world.settle()


async def finish(world):
    while await world.run_pods():
        pass


async def test_pods_come_one_after_the_other(cluster):
    await create(cluster)
    assert names(cluster) == ["s-0"]
    pod = cluster.client.objects(PODS)[0]
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("s-0", "svc")
    labels = pod["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "s-0"
    assert labels["apps.kubernetes.io/pod-index"] == "0"
    assert labels["controller-revision-hash"] == status(cluster)["updateRevision"]
    await cluster.run_pods()
    assert names(cluster) == ["s-0", "s-1"]
    await finish(cluster)
    assert names(cluster) == ["s-0", "s-1", "s-2"]
    got = status(cluster)
    assert (got["readyReplicas"], got["currentReplicas"], got["updatedReplicas"]) == (3, 3, 3)
    assert got["currentRevision"] == got["updateRevision"]
    assert (
        "Normal", "SuccessfulCreate", "Create Pod s-0 in StatefulSet s successful",
    ) in cluster.client.events()  # fmt: skip


async def test_parallel_makes_all_at_once(cluster):
    await create(cluster, podManagementPolicy="Parallel")
    assert len(names(cluster)) == 3


async def test_scale_down_from_the_top_one_at_a_time(cluster):
    cluster.client.graceful_pods = True
    await create(cluster)
    await finish(cluster)
    await update(cluster, replicas=1)
    going = [p["metadata"]["name"] for p in cluster.client.objects(PODS)
             if p["metadata"].get("deletionTimestamp")]  # fmt: skip
    assert going == ["s-2"]
    cluster.client.remove(PODS, "s-2", "default")
    await cluster.settle()
    cluster.client.remove(PODS, "s-1", "default")
    await cluster.settle()
    assert names(cluster) == ["s-0"]


async def test_update_goes_from_the_top_and_waits_for_each(cluster):
    await create(cluster)
    await finish(cluster)
    await update(cluster, image="v2")
    assert images(cluster) == ["v1", "v1", "v2"]
    await cluster.run_pods()
    assert images(cluster) == ["v1", "v2", "v2"]
    await finish(cluster)
    assert images(cluster) == ["v2", "v2", "v2"]
    assert status(cluster)["currentRevision"] == status(cluster)["updateRevision"]


async def test_partition_keeps_lower_ordinals_on_the_old_revision(cluster):
    await create(cluster)
    await finish(cluster)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    await update(cluster, image="v2", updateStrategy=strategy)
    await finish(cluster)
    assert images(cluster) == ["v1", "v1", "v2"]
    cluster.client.remove(PODS, "s-0", "default")
    await cluster.settle()
    await finish(cluster)
    assert images(cluster) == ["v1", "v1", "v2"]


async def test_max_unavailable_updates_several(cluster):
    await create(cluster, replicas=4)
    await finish(cluster)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}
    cluster.client.graceful_pods = True
    await update(cluster, image="v2", updateStrategy=strategy)
    going = [p for p in cluster.client.objects(PODS) if p["metadata"].get("deletionTimestamp")]
    assert [p["metadata"]["name"] for p in going] == ["s-2", "s-3"]


async def test_failed_pod_is_made_anew_under_its_name(cluster):
    await create(cluster)
    await finish(cluster)
    before = cluster.client.current(PODS, "s-1", "default")
    cluster.set_pod(before, phase="Failed", ready=False)
    await cluster.settle()
    after = cluster.client.current(PODS, "s-1", "default")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_start_ordinal(cluster):
    await create(cluster, replicas=2, ordinals={"start": 5}, podManagementPolicy="Parallel")
    assert names(cluster) == ["s-5", "s-6"]


async def test_claims_stay_and_come_back_with_the_pod(cluster):
    await create(cluster, replicas=2, volumeClaimTemplates=[CLAIM])
    await finish(cluster)
    claims = [c["metadata"]["name"] for c in cluster.client.objects(PERSISTENT_VOLUME_CLAIMS)]
    assert claims == ["data-s-0", "data-s-1"]
    pod = cluster.client.current(PODS, "s-1", "default")
    assert pod["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-s-1"}}
    ]
    await update(cluster, replicas=1)
    assert names(cluster) == ["s-0"]
    assert len(cluster.client.objects(PERSISTENT_VOLUME_CLAIMS)) == 2


async def test_retention_policy_hands_claims_over(cluster):
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    await create(
        cluster, replicas=2, volumeClaimTemplates=[CLAIM],
        persistentVolumeClaimRetentionPolicy=policy,
    )  # fmt: skip
    await finish(cluster)

    def owner(claim):
        found = cluster.client.current(PERSISTENT_VOLUME_CLAIMS, claim, "default")
        return [o["kind"] for o in found["metadata"].get("ownerReferences") or ()]

    assert owner("data-s-0") == ["StatefulSet"]
    cluster.client.graceful_pods = True
    await update(cluster, replicas=1)
    assert owner("data-s-1") == ["Pod"]


async def test_claims_that_others_manage_are_told_of(cluster):
    foreign = {
        "apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "uid-x", "controller": True,
    }  # fmt: skip
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-s-0", "namespace": "default", "ownerReferences": [foreign]},
        "spec": {},
    }  # fmt: skip
    cluster.client.seed(claim)
    await create(
        cluster, replicas=1, volumeClaimTemplates=[CLAIM],
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"},
    )  # fmt: skip
    await finish(cluster)
    found = cluster.client.current(PERSISTENT_VOLUME_CLAIMS, "data-s-0", "default")
    assert found["metadata"]["ownerReferences"] == [foreign]
    told = [event for event in cluster.client.events() if "ConflictingController" in event]
    assert len(told) == 1
    assert "PersistentVolumeClaim data-s-0 has a conflicting OwnerReference" in told[0][-1]


async def test_idle_set_is_left_alone(cluster):
    await create(cluster, volumeClaimTemplates=[CLAIM])
    await finish(cluster)
    cluster.client.actions.clear()
    await cluster.advance(3600)
    assert cluster.client.writes() == []


async def test_pods_that_were_ready_before_the_answer_came_are_not_waited_for(world, monkeypatch):
    create_pod = world.client.create

    async def slow(resource, obj, *args, **kwargs):
        made = await create_pod(resource, obj, *args, **kwargs)
        if resource == PODS:
            world.set_pod(made)
            for _ in range(20):
                await asyncio.sleep(0)
        return made

    monkeypatch.setattr(world.client, "create", slow)
    await world.run(StatefulSetController(world.env))
    await create(world, podManagementPolicy="Parallel")
    assert status(world)["readyReplicas"] == status(world)["availableReplicas"] == 3


async def test_a_stopped_controller_writes_no_more(world, monkeypatch):
    async def never(resource, obj, *args, **kwargs):
        await asyncio.Future()

    monkeypatch.setattr(world.client, "create", never)
    controller = StatefulSetController(world.env)
    await world.run(controller)
    world.client.seed(stateful_set())
    for _ in range(20):
        await asyncio.sleep(0)
    world.client.actions.clear()
    await controller.stop()
    world.controllers.clear()
    assert world.client.writes() == []
