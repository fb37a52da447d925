"""DaemonSets: placement, updates, failed pods, history."""

from __future__ import annotations

import json

import pytest

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_container, make_node, make_workload
from pilothouse.controllermanager.daemonset.compute import should_run, target_node
from pilothouse.controllermanager.daemonset.controller import DaemonSetController
from pilothouse.kubeclient.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS


def daemon_set(image="v1", template_spec=None, **spec):
    one = make_workload(
        "DaemonSet", "d", replicas=None, uid="ds", containers=[make_container(image=image)],
        spec={
            "updateStrategy": {
                "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "revisionHistoryLimit": 10,
        } | spec,
    )  # fmt: skip
    one["spec"]["template"]["spec"] |= template_spec or {}
    return one


NO_SCHEDULE = {"key": "k", "effect": "NoSchedule"}
NO_EXECUTE = {"key": "k", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("template", "node", "answer"),
    [
        ({}, make_node("n"), (True, True)),
        ({}, make_node("n", taints=[NO_SCHEDULE]), (False, True)),
        ({}, make_node("n", taints=[NO_EXECUTE]), (False, False)),
        ({"tolerations": [{"operator": "Exists"}]}, make_node("n", taints=[NO_EXECUTE]),
         (True, True)),
        ({}, make_node("n", taints=[{"key": "node.kubernetes.io/unschedulable",
                                     "effect": "NoSchedule"}]), (True, True)),
        ({"nodeSelector": {"a": "b"}}, make_node("n"), (False, False)),
        ({"nodeSelector": {"a": "b"}}, make_node("n", labels={"a": "b"}), (True, True)),
        ({"nodeName": "other"}, make_node("n"), (False, False)),
    ],
)  # fmt: skip
def test_should_run(template, node, answer):
    assert should_run(daemon_set(template_spec=template), node) == answer


@pytest.fixture
async def cluster(world):
    for number in range(3):
        world.client.seed(make_node(f"n{number}"))
    await world.run(DaemonSetController(world.env))
    return world


async def create(world, **options):
    await world.client.create(DAEMON_SETS, daemon_set(**options), "default")
    await world.settle()


async def run_pods(world):
    """Binds and runs what is new."""
    for pod in world.client.objects(PODS):
        if not pod.get("status", {}).get("phase"):
            pod = copy_object(pod)
            pod["spec"]["nodeName"] = target_node(pod)
            world.set_pod(pod)
    await world.settle()


async def set_image(world, image):
    new = copy_object(world.client.current(DAEMON_SETS, "d", "default"))
    new["spec"]["template"]["spec"]["containers"][0]["image"] = image
    await world.client.update(DAEMON_SETS, new)
    await world.settle()


def status(world):
    return world.client.current(DAEMON_SETS, "d", "default")["status"]


def nodes_of(world):
    return sorted(target_node(p) for p in world.client.objects(PODS))


async def test_one_pod_a_node_that_the_scheduler_binds(cluster):
    await create(cluster)
    assert nodes_of(cluster) == ["n0", "n1", "n2"]
    pod = cluster.client.objects(PODS)[0]
    assert "nodeName" not in pod["spec"]
    keys = {t["key"] for t in pod["spec"]["tolerations"]}
    assert "node.kubernetes.io/unschedulable" in keys
    await run_pods(cluster)
    assert status(cluster)["desiredNumberScheduled"] == 3
    assert status(cluster)["numberReady"] == 3
    assert status(cluster)["updatedNumberScheduled"] == 3
    assert "numberUnavailable" not in status(cluster)
    (revision,) = cluster.client.objects(CONTROLLER_REVISIONS)
    assert json.dumps(revision["data"]) == json.dumps(revision["data"], sort_keys=True)


async def test_nodes_come_and_change(cluster):
    await create(cluster)
    await run_pods(cluster)
    cluster.client.seed(make_node("n3"))
    await cluster.settle()
    assert nodes_of(cluster) == ["n0", "n1", "n2", "n3"]
    cluster.client.seed(make_node("n0", taints=[NO_EXECUTE]))
    await cluster.settle()
    assert nodes_of(cluster) == ["n1", "n2", "n3"]
    cluster.client.seed(make_node("n1", taints=[NO_SCHEDULE]))
    await cluster.settle()
    assert nodes_of(cluster) == ["n1", "n2", "n3"]
    assert status(cluster)["numberMisscheduled"] == 1


async def test_rolling_update_replaces_one_at_a_time(cluster):
    await create(cluster)
    await run_pods(cluster)
    await set_image(cluster, "v2")
    for _ in range(6):
        ready = [p for p in cluster.client.objects(PODS) if p.get("status", {}).get("phase")]
        assert len(ready) >= 2
        await run_pods(cluster)
    images = {p["spec"]["containers"][0]["image"] for p in cluster.client.objects(PODS)}
    assert images == {"v2"}
    revisions = cluster.client.objects(CONTROLLER_REVISIONS)
    assert sorted(r["revision"] for r in revisions) == [1, 2]
    await set_image(cluster, "v1")
    revisions = cluster.client.objects(CONTROLLER_REVISIONS)
    assert sorted(r["revision"] for r in revisions) == [2, 3]


async def test_surge_starts_the_new_pod_before_the_old_one_goes(cluster):
    await create(
        cluster,
        updateStrategy={
            "type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
    )  # fmt: skip
    await run_pods(cluster)
    await set_image(cluster, "v2")
    assert len(cluster.client.objects(PODS)) == 4
    for _ in range(6):
        ready = [p for p in cluster.client.objects(PODS) if p.get("status", {}).get("phase")]
        assert len(ready) >= 3
        await run_pods(cluster)
    images = [p["spec"]["containers"][0]["image"] for p in cluster.client.objects(PODS)]
    assert images == ["v2"] * 3


async def test_on_delete_waits_for_the_user(cluster):
    await create(cluster, updateStrategy={"type": "OnDelete"})
    await run_pods(cluster)
    await set_image(cluster, "v2")
    images = {p["spec"]["containers"][0]["image"] for p in cluster.client.objects(PODS)}
    assert images == {"v1"}
    cluster.client.remove(PODS, cluster.client.objects(PODS)[0]["metadata"]["name"], "default")
    await cluster.settle()
    images = sorted(p["spec"]["containers"][0]["image"] for p in cluster.client.objects(PODS))
    assert images == ["v1", "v1", "v2"]


async def test_failed_pod_is_replaced_with_back_off(cluster):
    await create(cluster)
    await run_pods(cluster)

    async def fail():
        pod = next(p for p in cluster.client.objects(PODS) if target_node(p) == "n0")
        cluster.set_pod(pod, phase="Failed", ready=False)
        await cluster.settle()
        return pod["metadata"]["name"]

    first = await fail()
    assert any(reason == "FailedDaemonPod" for _, reason, _ in cluster.client.events())
    await run_pods(cluster)
    second = await fail()
    assert second != first
    assert cluster.client.current(PODS, second, "default")
    await cluster.advance(2)
    assert cluster.client.current(PODS, second, "default") is None


async def test_node_that_goes_takes_unscheduled_pods_along(cluster):
    await create(cluster)
    cluster.client.remove(NODES, "n0")
    await cluster.settle()
    assert nodes_of(cluster) == ["n1", "n2"]
