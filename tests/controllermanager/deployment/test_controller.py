"""Deployments end to end over the fake client, with the real ReplicaSet controller."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import make_container, make_workload
from pilothouse.controllermanager.deployment.controller import DeploymentController
from pilothouse.controllermanager.replicaset import ReplicaSetController
from pilothouse.kubeclient.resources import DEPLOYMENTS, PODS, REPLICA_SETS

REVISION = "deployment.kubernetes.io/revision"


def deployment(replicas=3, image="v1", strategy=None, **spec):
    strategy = strategy or {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    return make_workload(
        "Deployment",
        "web",
        replicas=replicas,
        containers=[make_container(image=image)],
        spec={"strategy": strategy, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}
        | spec,
    )


@pytest.fixture
async def cluster(world):
    await world.run(DeploymentController(world.env), ReplicaSetController(world.env))
    return world


def current(world):
    return world.client.current(DEPLOYMENTS, "web", "default")


def sizes(world):
    return sorted(rs["spec"]["replicas"] for rs in world.client.objects(REPLICA_SETS))


async def update(world, **spec):
    new = copy_object(current(world))
    new["spec"] |= spec
    await world.client.update(DEPLOYMENTS, new)
    await world.settle()


async def set_image(world, image):
    template = copy_object(current(world)["spec"]["template"])
    template["spec"]["containers"][0]["image"] = image
    await update(world, template=template)


async def finish(world):
    while await world.run_pods():
        pass


async def test_first_rollout(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(), "default")
    await cluster.settle()
    assert len(cluster.client.objects(PODS)) == 3
    status = current(cluster)["status"]
    assert status["unavailableReplicas"] == 3
    assert condition_of(current(cluster), "Available")["reason"] == "MinimumReplicasUnavailable"
    await finish(cluster)
    status = current(cluster)["status"]
    assert (status["replicas"], status["availableReplicas"], status["updatedReplicas"]) == (3, 3, 3)
    assert "unavailableReplicas" not in status
    (replica_set,) = cluster.client.objects(REPLICA_SETS)
    name = replica_set["metadata"]["name"]
    progressing = condition_of(current(cluster), "Progressing")
    assert progressing["reason"] == "NewReplicaSetAvailable"
    assert progressing["message"] == f'ReplicaSet "{name}" has successfully progressed.'
    assert current(cluster)["metadata"]["annotations"][REVISION] == "1"
    annotations = replica_set["metadata"]["annotations"]
    assert annotations[REVISION] == "1"
    assert annotations["deployment.kubernetes.io/max-replicas"] == "4"
    hashed = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert name == f"web-{hashed}"
    events = cluster.client.events()
    assert ("Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 3") in events
    created = [e for e in events if e[1] == "SuccessfulCreate"]
    assert len(created) == 3 and created[0][2].startswith(f"Created pod: {name}-")


async def test_update_rolls_and_never_leaves_its_bounds(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(replicas=4), "default")
    await cluster.settle()
    await finish(cluster)
    await set_image(cluster, "v2")
    assert sizes(cluster) == [2, 3]
    while True:
        pods = cluster.client.objects(PODS)
        ready = [p for p in pods if p.get("status", {}).get("phase")]
        assert len(ready) >= 3 and len(pods) <= 5
        if not await cluster.run_pods():
            break
    assert sizes(cluster) == [0, 4]
    assert current(cluster)["metadata"]["annotations"][REVISION] == "2"
    assert current(cluster)["status"]["updatedReplicas"] == 4


async def test_going_back_reuses_the_old_replica_set_with_a_new_revision(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(), "default")
    await cluster.settle()
    await finish(cluster)
    await set_image(cluster, "v2")
    await finish(cluster)
    await set_image(cluster, "v1")
    await finish(cluster)
    replica_sets = cluster.client.objects(REPLICA_SETS)
    assert len(replica_sets) == 2
    new = next(rs for rs in replica_sets if rs["spec"]["replicas"])
    annotations = new["metadata"]["annotations"]
    assert annotations[REVISION] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert current(cluster)["metadata"]["annotations"][REVISION] == "3"


async def test_recreate_waits_for_the_last_old_pod(cluster):
    cluster.client.graceful_pods = True
    await cluster.client.create(
        DEPLOYMENTS, deployment(replicas=2, strategy={"type": "Recreate"}), "default"
    )
    await cluster.settle()
    await finish(cluster)
    await set_image(cluster, "v2")
    assert sizes(cluster) == [0]
    pods = cluster.client.objects(PODS)
    assert len(pods) == 2 and all(p["metadata"].get("deletionTimestamp") for p in pods)
    for pod in pods:
        cluster.client.remove(PODS, pod["metadata"]["name"], "default")
        await cluster.settle()
    assert sizes(cluster) == [0, 2]


async def test_paused_scales_but_does_not_roll(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(), "default")
    await cluster.settle()
    await finish(cluster)
    await update(cluster, paused=True)
    assert condition_of(current(cluster), "Progressing")["reason"] == "DeploymentPaused"
    await set_image(cluster, "v2")
    await update(cluster, replicas=5)
    assert sizes(cluster) == [5]
    await update(cluster, paused=False)
    assert condition_of(current(cluster), "Progressing")["reason"] != "DeploymentPaused"
    await finish(cluster)
    assert sizes(cluster) == [0, 5]


async def test_scaling_in_mid_rollout_is_proportional(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(replicas=10), "default")
    await cluster.settle()
    await finish(cluster)
    await set_image(cluster, "v2")
    assert sizes(cluster) == [5, 8]
    await update(cluster, replicas=20)
    assert sum(sizes(cluster)) == 25
    assert sizes(cluster) == [10, 15]


async def test_progress_deadline(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(), "default")
    await cluster.settle()
    await cluster.advance(599)
    assert condition_of(current(cluster), "Progressing")["status"] == "True"
    await cluster.advance(3)
    progressing = condition_of(current(cluster), "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert progressing["message"].endswith("has timed out progressing.")


async def test_history_limit(cluster):
    await cluster.client.create(
        DEPLOYMENTS, deployment(replicas=1, revisionHistoryLimit=1), "default"
    )
    await cluster.settle()
    for image in ("v2", "v3", "v4"):
        await finish(cluster)
        await set_image(cluster, image)
    await finish(cluster)
    revisions = sorted(
        rs["metadata"]["annotations"][REVISION] for rs in cluster.client.objects(REPLICA_SETS)
    )
    assert revisions == ["3", "4"]


async def test_refused_pods_are_a_replica_failure(cluster):
    def refuse(action):
        raise StatusError(403, "Forbidden", "pods is forbidden: exceeded quota")

    cluster.client.react("create", "pods", refuse)
    await cluster.client.create(DEPLOYMENTS, deployment(), "default")
    await cluster.settle()
    failure = condition_of(current(cluster), "ReplicaFailure")
    assert (failure["reason"], failure["status"]) == ("FailedCreate", "True")
    assert failure["message"] == "pods is forbidden: exceeded quota"
    assert (
        "Warning",
        "FailedCreate",
        "Error creating: pods is forbidden: exceeded quota",
    ) in cluster.client.events()
    assert len([w for w in cluster.client.writes() if w[:2] == ("create", "pods")]) <= 2
    cluster.client.reactors.clear()
    await cluster.advance(1)
    await finish(cluster)
    assert condition_of(current(cluster), "ReplicaFailure") is None


async def test_hash_collision_is_got_around(cluster):
    from pilothouse.controllermanager.deployment import revisions

    wanted = deployment()
    wanted["metadata"]["namespace"] = "default"
    taken = revisions.make_replica_set(copy_object(wanted) | {"metadata": {"name": "web"}})
    taken["metadata"].pop("ownerReferences")
    taken["metadata"]["namespace"] = "default"
    taken["metadata"]["labels"] = {"other": "x"}
    taken["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    cluster.client.seed(taken)
    await cluster.client.create(DEPLOYMENTS, wanted, "default")
    await cluster.settle()
    await cluster.advance(1)
    assert current(cluster)["status"]["collisionCount"] == 1
    assert len(cluster.client.objects(REPLICA_SETS)) == 2


async def test_idle_controller_does_not_write(cluster):
    await cluster.client.create(DEPLOYMENTS, deployment(), "default")
    await cluster.settle()
    await finish(cluster)
    cluster.client.actions.clear()
    await cluster.advance(3600)
    assert cluster.client.writes() == []
