"""ResourceQuota usage and PodDisruptionBudget status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.testing import (
    make_config_map,
    make_container,
    make_object,
    make_pod,
    make_service,
    make_workload,
)
from pilothouse.controllermanager.disruption import DisruptionController, compute
from pilothouse.controllermanager.quota_usage import matches_scopes, pod_resources, pod_usage
from pilothouse.controllermanager.resource_quota import ResourceQuotaController
from pilothouse.kubeclient.resources import (
    CONFIG_MAPS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
)


def quota(name="q", scopes=None, **hard):
    spec = {"hard": {k.replace("_", "."): v for k, v in hard.items()}}
    if scopes:
        spec["scopes"] = scopes
    return make_object("v1", "ResourceQuota", name, "default", spec=spec)


def used(world, name="q"):
    return world.client.current(RESOURCE_QUOTAS, name, "default")["status"]["used"]


def test_pod_requests_are_the_sum_or_the_largest_init_container():
    pod = make_pod(
        containers=[
            make_container("a", requests={"cpu": "100m", "memory": "1Gi"}),
            make_container("b", requests={"cpu": "200m"}),
        ],
        spec={
            "initContainers": [
                make_container("init", requests={"cpu": "1", "memory": "1Mi"}),
                make_container("side", requests={"cpu": "50m"}, restartPolicy="Always"),
            ],
            "overhead": {"cpu": "10m"},
        },
    )
    total = pod_resources(pod, "requests")
    assert {k: str(v) for k, v in total.items()} == {"cpu": "1010m", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("scope", "matches"),
    [
        ("BestEffort", True),
        ("NotBestEffort", False),
        ("Terminating", False),
        ("NotTerminating", True),
        ("CrossNamespacePodAffinity", False),
    ],
)
def test_scopes(scope, matches):
    assert matches_scopes(quota(scopes=[scope]), make_pod()) is matches


def test_terminated_pods_count_only_as_objects():
    usage = pod_usage(make_pod(phase="Succeeded", requests={"cpu": "1"}), 0)
    assert {k: str(v) for k, v in usage.items()} == {"count/pods": "1"}


async def test_usage_falls_when_objects_go(world):
    world.client.seed(make_pod("a", requests={"cpu": "500m"}, phase="Running"))
    world.client.seed(make_pod("b", requests={"cpu": "1"}, phase="Running"))
    world.client.seed(make_service("s", spec={"type": "NodePort"}))
    world.client.seed(make_config_map("c"))
    world.client.seed(
        quota(requests_cpu="4", pods="10", services_nodeports="2", configmaps="5", secrets="1")
    )
    await world.run(ResourceQuotaController(world.env))
    assert used(world) == {
        "requests.cpu": "1500m", "pods": "2", "services.nodeports": "1", "configmaps": "1",
        "secrets": "0",
    }  # fmt: skip
    world.client.remove(CONFIG_MAPS, "c", "default")
    world.set_pod(world.client.current(PODS, "b", "default"), phase="Succeeded", ready=False)
    await world.settle()
    assert used(world)["configmaps"] == "0"
    assert (used(world)["requests.cpu"], used(world)["pods"]) == ("500m", "1")


async def test_a_pod_that_gets_a_deadline_changes_scope(world):
    world.client.seed(make_pod("a", phase="Running"))
    world.client.seed(quota(scopes=["NotTerminating"], pods="2"))
    await world.run(ResourceQuotaController(world.env))
    assert used(world) == {"pods": "1"}
    pod = world.client.current(PODS, "a", "default")
    world.client.seed(pod | {"spec": pod["spec"] | {"activeDeadlineSeconds": 3600}})
    await world.settle()
    assert used(world) == {"pods": "0"}


async def test_claims_count_for_the_classes_that_they_want_and_have(world):
    claim = make_object("v1", "PersistentVolumeClaim", "c", "default",
                        spec={"volumeAttributesClassName": "gold"})  # fmt: skip
    world.client.seed(claim)
    for name in ("gold", "silver"):
        rule = {"scopeName": "VolumeAttributesClass", "operator": "In", "values": [name]}
        scoped = quota(persistentvolumeclaims="2")
        scoped["metadata"]["name"] = name
        scoped["spec"]["scopeSelector"] = {"matchExpressions": [rule]}
        world.client.seed(scoped)
    await world.run(ResourceQuotaController(world.env))
    assert (used(world, "gold"), used(world, "silver")) == (
        {"persistentvolumeclaims": "1"}, {"persistentvolumeclaims": "0"},
    )  # fmt: skip
    current = {"status": {"currentVolumeAttributesClassName": "gold"}}
    claim = claim | current | {"spec": {"volumeAttributesClassName": "silver"}}
    world.client.seed(claim)
    await world.settle()
    assert used(world, "gold") == used(world, "silver") == {"persistentvolumeclaims": "1"}
    world.client.seed(claim | {"status": {"currentVolumeAttributesClassName": "silver"}})
    await world.settle()
    assert used(world, "gold") == {"persistentvolumeclaims": "0"}


def device_claim(name, count, pod=None):
    request = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": count}
    spec = {"devices": {"requests": [{"name": "r", "exactly": request}]}}
    claim = make_object("resource.k8s.io/v1", "ResourceClaim", name, "default", spec=spec)
    if pod:
        meta = {k: pod["metadata"][k] for k in ("name", "uid")}
        owner = {"apiVersion": "v1", "kind": "Pod", "controller": True, **meta}
        claim["metadata"]["ownerReferences"] = [owner]
        claim["metadata"]["annotations"] = {
            "resource.kubernetes.io/extended-resource-claim": "true"
        }
    return claim


async def test_devices_count_once_for_a_pod_and_the_claim_of_its_extended_resources(world):
    device_class = make_object("resource.k8s.io/v1", "DeviceClass", "c", "",
                               spec={"extendedResourceName": "example.com/gpu"})  # fmt: skip
    implicit = "requests.deviceclass.resource.kubernetes.io/c"
    hard = dict.fromkeys(
        ("requests.example.com/gpu", implicit, "c.deviceclass.resource.k8s.io/devices",
         "count/resourceclaims.resource.k8s.io"), "10",
    )  # fmt: skip
    world.client.seed(make_object("v1", "ResourceQuota", "q", "default", spec={"hard": hard}))
    requests = {"example.com/gpu": "2", "deviceclass.resource.kubernetes.io/c": "1"}
    world.client.seed(make_pod("a", requests=requests, phase="Running"))
    world.client.seed(device_claim("plain", 1))
    world.client.seed(device_claim("of-pod", 3, world.client.current(PODS, "a", "default")))
    await world.run(ResourceQuotaController(world.env))
    assert [used(world)[name] for name in hard] == ["2", "4", "4", "2"]
    world.client.seed(device_class)  # from now on example.com/gpu stands for the class
    await world.settle()
    assert [used(world)[name] for name in hard] == ["4", "4", "4", "2"]
    world.client.remove(RESOURCE_CLAIMS, "of-pod", "default")
    await world.settle()
    assert [used(world)[name] for name in hard] == ["3", "2", "1", "1"]


async def test_counts_of_kinds_that_nobody_follows(world):
    world.client.seed(make_workload("Deployment", "d"))
    quota_ = quota()
    quota_["spec"]["hard"] = {"count/deployments.apps": "3"}
    world.client.seed(quota_)
    await world.run(ResourceQuotaController(world.env))
    assert used(world) == {"count/deployments.apps": "1"}


async def test_workloads_count_until_they_go(world):
    world.client.seed(make_workload("ReplicaSet", "r"))
    quota_ = quota()
    quota_["spec"]["hard"] = {"count/replicasets.apps": "3"}
    world.client.seed(quota_)
    await world.run(ResourceQuotaController(world.env))
    assert used(world) == {"count/replicasets.apps": "1"}
    world.client.remove(REPLICA_SETS, "r", "default")
    await world.settle()
    assert used(world) == {"count/replicasets.apps": "0"}


def budget(**spec):
    return make_object(
        "policy/v1", "PodDisruptionBudget", "b", "default",
        spec={"selector": {"matchLabels": {"app": "web"}}, **spec},
    )  # fmt: skip


def seed_pods(world, ready, not_ready=0, owned=True):
    owner = world.client.seed(
        make_workload("ReplicaSet", "web", replicas=ready + not_ready, uid="rs")
    )
    for number in range(ready + not_ready):
        world.client.seed(
            make_pod(
                f"p{number}",
                labels={"app": "web"},
                ready=number < ready,
                phase="Running",
                owner=owner if owned else None,
            )
        )


def status(world):
    return world.client.current(POD_DISRUPTION_BUDGETS, "b", "default")["status"]


@pytest.mark.parametrize(
    ("spec", "desired", "allowed"),
    [
        ({"minAvailable": 2}, 2, 1),
        ({"minAvailable": "50%"}, 2, 1),
        ({"maxUnavailable": 1}, 3, 0),
        ({"maxUnavailable": "50%"}, 2, 1),
        ({"minAvailable": "100%"}, 4, 0),
        ({"maxUnavailable": 0}, 4, 0),
    ],
)
async def test_allowed_disruptions(world, spec, desired, allowed):
    seed_pods(world, 3, 1)
    world.client.seed(budget(**spec))
    await world.run(DisruptionController(world.env))
    got = status(world)
    assert (got["expectedPods"], got["currentHealthy"]) == (4, 3)
    assert (got["desiredHealthy"], got["disruptionsAllowed"]) == (desired, allowed)
    reason = "SufficientPods" if allowed else "InsufficientPods"
    assert condition_of({"status": got}, "DisruptionAllowed")["reason"] == reason


async def test_evicted_pod_counts_as_gone_until_it_should_be(world):
    seed_pods(world, 3)
    one = budget(minAvailable=1)
    one["status"] = {"disruptedPods": {"p0": "2026-01-01T00:00:00Z"}}
    world.client.seed(one)
    await world.run(DisruptionController(world.env))
    assert status(world)["currentHealthy"] == 2
    await world.advance(121)
    assert status(world)["currentHealthy"] == 3
    assert "disruptedPods" not in status(world)
    assert any(reason == "NotDeleted" for _, reason, _ in world.client.events())


async def test_a_pod_of_two_budgets_is_told_so(world):
    for name in ("one", "two"):
        world.client.seed(
            make_object(
                "policy/v1", "PodDisruptionBudget", name, "default",
                spec={"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}, status={},
            )
        )  # fmt: skip
    await world.run(DisruptionController(world.env))
    world.client.seed(make_pod("p", labels={"app": "a"}, ready=True, phase="Running"))
    await world.settle()
    message = 'Pod "default"/"p" matches multiple PodDisruptionBudgets.  Chose "one" arbitrarily.'
    assert ("Warning", "MultiplePodDisruptionBudgets", message) in world.client.events()


async def test_pods_without_a_controller_are_reported(world):
    seed_pods(world, 2, owned=False)
    world.client.seed(budget(maxUnavailable=1))
    await world.run(DisruptionController(world.env))
    assert status(world)["disruptionsAllowed"] == 0
    assert any(reason == "UnmanagedPods" for _, reason, _ in world.client.events())


async def test_bad_percentage_fails_safe(world):
    seed_pods(world, 2)
    world.client.seed(budget(maxUnavailable="x"))
    await world.run(DisruptionController(world.env))
    failed = condition_of({"status": status(world)}, "DisruptionAllowed")
    assert (failed["reason"], status(world)["disruptionsAllowed"]) == ("SyncFailed", 0)


async def test_idle_budget_is_not_written_again(world):
    seed_pods(world, 2)
    world.client.seed(budget(minAvailable=1))
    await world.run(DisruptionController(world.env))
    world.client.actions.clear()
    world.client.seed(make_pod("other", labels={"app": "other"}))
    await world.advance(600)
    assert world.client.writes() == []


_BUDGETS = st.one_of(
    st.tuples(st.just("minAvailable"), st.integers(0, 8)),
    st.tuples(st.just("maxUnavailable"), st.integers(0, 8)),
    st.tuples(st.sampled_from(["minAvailable", "maxUnavailable"]),
              st.integers(0, 100).map(lambda p: f"{p}%")),
)  # fmt: skip
_PODS = st.lists(st.sampled_from(["ready", "ready", "unready", "deleted", "evicted", "undead"]),
                 max_size=8)  # fmt: skip


@given(_BUDGETS, _PODS, st.integers(0, 3))
def test_granted_evictions_never_go_below_the_budget(rule, states, missing):
    """Pods that are up and not yet spoken for, less what is allowed, are still enough."""
    now = 1_800_000_000.0
    budget = {"metadata": {"generation": 1}, "spec": {rule[0]: rule[1]}, "status": {}}
    noted = budget["status"].setdefault("disruptedPods", {})
    pods = []
    for number, state in enumerate(states):
        pod = make_pod(f"p{number}", ready=state != "unready", phase="Running")
        if state == "deleted":
            pod["metadata"]["deletionTimestamp"] = "2027-01-15T07:59:00Z"
        if state in ("evicted", "undead"):  # granted a second ago; ten minutes ago
            noted[pod["metadata"]["name"]] = (
                "2027-01-15T07:59:59Z" if state == "evicted" else "2027-01-15T07:50:00Z"
            )
        pods.append(pod)
    expected = len(pods) + missing
    verdict = compute(budget, pods, expected, now, "2027-01-15T08:00:00Z")
    up = sum(state in ("ready", "undead") for state in states)
    share = rule[1]
    if isinstance(share, str):
        share = -(-expected * int(share[:-1]) // 100)
    needed = share if rule[0] == "minAvailable" else max(0, expected - share)
    allowed = verdict.status["disruptionsAllowed"]
    assert verdict.status["desiredHealthy"] == needed
    assert allowed == 0 or up - allowed >= needed
    assert allowed == (max(0, up - needed) if expected else 0)
    assert set(verdict.status.get("disruptedPods", {})) == {
        f"p{n}" for n, state in enumerate(states) if state == "evicted"
    }
