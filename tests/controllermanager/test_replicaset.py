"""ReplicaSets and ReplicationControllers: adoption, ranking, availability; aggregated roles."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_object, make_pod, make_workload
from pilothouse.controllermanager.clusterrole_aggregation import ClusterRoleAggregationController
from pilothouse.controllermanager.pods import rank_for_deletion
from pilothouse.controllermanager.replicaset import (
    ReplicaSetController,
    ReplicationControllerController,
)
from pilothouse.kubeclient.resources import (
    CLUSTER_ROLES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
)

NOW = 1_767_225_600.0  # 2026-01-01


def pod(name, node="n", phase="Running", since="2025-12-31T23:00:00Z", restarts=0, cost=""):
    one = make_pod(name, node=node, phase=phase, uid=name)
    one["metadata"]["creationTimestamp"] = since
    if since and phase == "Running":
        one["status"]["conditions"] = [
            {"type": "Ready", "status": "True", "lastTransitionTime": since}
        ]
    one["status"]["containerStatuses"] = [{"name": "c", "restartCount": restarts}]
    if cost:
        one["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    return one


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("a", node="", phase="Pending"), pod("b", phase="Pending")),
        (pod("a", phase="Pending"), pod("b")),
        (pod("a", phase="Unknown"), pod("b")),
        (pod("a", since=""), pod("b")),
        (pod("a", cost="-5"), pod("b")),
        (pod("a", since="2025-12-31T23:59:50Z"), pod("b", since="2025-12-31T10:00:00Z")),
        (pod("a", restarts=3), pod("b")),
    ],
    ids=["unassigned", "pending", "unknown", "not ready", "cheap", "young", "restarted"],
)
def test_what_goes_first(first, second):
    ranked = rank_for_deletion([second, first], [], NOW)
    assert [p["metadata"]["name"] for p in ranked] == ["a", "b"]


def test_pods_on_crowded_nodes_go_first():
    crowd = [pod("x", node="full"), pod("y", node="full"), pod("z", node="empty")]
    ranked = rank_for_deletion([crowd[2], crowd[0]], crowd, NOW)
    assert ranked[0]["metadata"]["name"] == "x"


@pytest.fixture
async def cluster(world):
    await world.run(ReplicaSetController(world.env))
    return world


def replica_set(replicas=2, **spec):
    return make_workload("ReplicaSet", "web", replicas=replicas, uid="rs", spec=spec)


def status(world):
    return world.client.current(REPLICA_SETS, "web", "default")["status"]


async def test_orphans_are_adopted_and_strangers_left_alone(cluster):
    cluster.client.seed(make_pod("orphan", labels={"app": "web"}, phase="Running"))
    cluster.client.seed(make_pod("stranger", labels={"app": "other"}, phase="Running"))
    await cluster.client.create(REPLICA_SETS, replica_set(), "default")
    await cluster.settle()
    assert len(cluster.client.objects(PODS)) == 3
    (owner,) = cluster.client.current(PODS, "orphan", "default")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "ReplicaSet", True, True,
    )  # fmt: skip
    assert "ownerReferences" not in cluster.client.current(PODS, "stranger", "default")["metadata"]


async def test_pod_that_no_longer_matches_is_released_and_replaced(cluster):
    await cluster.client.create(REPLICA_SETS, replica_set(1), "default")
    await cluster.settle()
    lost = copy_object(cluster.client.objects(PODS)[0])
    lost["metadata"]["labels"] = {"app": "quarantine"}
    await cluster.client.update(PODS, lost)
    await cluster.settle()
    lost = cluster.client.current(PODS, lost["metadata"]["name"], "default")
    assert not lost["metadata"].get("ownerReferences")
    assert len(cluster.client.objects(PODS)) == 2


async def test_min_ready_seconds(cluster):
    await cluster.client.create(REPLICA_SETS, replica_set(1, minReadySeconds=30), "default")
    await cluster.settle()
    await cluster.run_pods()
    assert status(cluster)["readyReplicas"] == 1
    assert "availableReplicas" not in status(cluster)
    await cluster.advance(31)
    assert status(cluster)["availableReplicas"] == 1


async def test_terminating_pods_are_counted_and_replaced(cluster):
    cluster.client.graceful_pods = True
    await cluster.client.create(REPLICA_SETS, replica_set(1), "default")
    await cluster.settle()
    await cluster.run_pods()
    await cluster.client.delete(PODS, cluster.client.objects(PODS)[0]["metadata"]["name"],
                                "default")  # fmt: skip
    await cluster.settle()
    assert len(cluster.client.objects(PODS)) == 2
    assert status(cluster)["terminatingReplicas"] == 1
    assert status(cluster)["replicas"] == 1


async def test_hundreds_are_created_in_growing_batches(cluster):
    await cluster.client.create(REPLICA_SETS, replica_set(200), "default")
    await cluster.settle()
    assert len(cluster.client.objects(PODS)) == 200


async def test_replication_controllers_work_the_same(world):
    await world.run(ReplicationControllerController(world.env))
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    controller = make_object(
        "v1", "ReplicationController", "rc", "default",
        spec={"replicas": 2, "selector": {"a": "b"}, "template": template},
    )  # fmt: skip
    await world.client.create(REPLICATION_CONTROLLERS, controller, "default")
    await world.settle()
    assert len(world.client.objects(PODS)) == 2
    got = world.client.current(REPLICATION_CONTROLLERS, "rc", "default")["status"]
    assert (got["replicas"], got["fullyLabeledReplicas"]) == (2, 2)
    assert "terminatingReplicas" not in got


async def test_cluster_roles_are_aggregated(world):
    def role(name, rules, labels=None, **more):
        return make_object(
            "rbac.authorization.k8s.io/v1", "ClusterRole", name, labels=labels, rules=rules, **more
        )

    one, two = ({"verbs": [verb], "resources": ["pods"]} for verb in ("get", "list"))
    rule = {"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]}
    world.client.seed(role("admin", [], aggregationRule=rule))
    world.client.seed(role("b", [two, one], {"to": "admin"}))
    await world.run(ClusterRoleAggregationController(world.env))
    world.client.seed(role("a", [one], {"to": "admin"}))
    world.client.seed(role("c", [{"verbs": ["*"]}]))
    await world.settle()
    assert world.client.current(CLUSTER_ROLES, "admin")["rules"] == [one, two]
