"""What objects count for in quotas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.quota_usage import (
    CLAIMS,
    PODS,
    RESOURCE_CLAIMS,
    SERVICES,
    is_quota_pod,
    matches_quota,
    matching_resources,
    missing_constraints,
    usage,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def count(resource: GroupResource, obj: Obj) -> dict[str, str]:
    return {name: str(quantity) for name, quantity in usage(resource, obj, NOW).items()}


def pod(requests: Obj | None = None, limits: Obj | None = None, **more: Any) -> Obj:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}, **more}


def test_pod() -> None:
    obj = pod({"cpu": "1", "example.com/gpu": "2"}, {"memory": "1Gi"})
    assert count(PODS, obj) == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "1",
        "requests.cpu": "1",
        "limits.memory": "1Gi",
        "requests.example.com/gpu": "2",
    }


def test_finished_and_stuck_pods_count_as_objects_only() -> None:
    assert count(PODS, pod({"cpu": "1"}, status={"phase": "Failed"})) == {"count/pods": "1"}
    stuck = {"deletionTimestamp": "2025-12-31T23:58:00Z", "deletionGracePeriodSeconds": 30}
    assert not is_quota_pod({"metadata": stuck}, NOW)
    going = {"deletionTimestamp": "2025-12-31T23:59:50Z", "deletionGracePeriodSeconds": 30}
    assert is_quota_pod({"metadata": going}, NOW)


@pytest.mark.parametrize(
    ("spec", "node_ports", "balancers"),
    [
        ({"type": "ClusterIP", "ports": [{}]}, "0", "0"),
        ({"type": "NodePort", "ports": [{}, {}]}, "2", "0"),
        ({"type": "LoadBalancer", "ports": [{}]}, "1", "1"),
        (
            {
                "type": "LoadBalancer",
                "allocateLoadBalancerNodePorts": False,
                "ports": [{"nodePort": 30000}, {}],
            },
            "1",
            "1",
        ),
    ],
)
def test_service(spec: Obj, node_ports: str, balancers: str) -> None:
    found = count(SERVICES, {"spec": spec})
    assert found["services.nodeports"] == node_ports
    assert found["services.loadbalancers"] == balancers
    assert found["services"] == found["count/services"] == "1"


def test_claims() -> None:
    spec = {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}
    assert count(CLAIMS, {"metadata": {}, "spec": spec}) == {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "2",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "gold.storageclass.storage.k8s.io/requests.storage": "2",
    }


def test_resource_claims_count_the_worst_case() -> None:
    options = [{"deviceClassName": "a", "count": 2}, {"deviceClassName": "a", "count": 5}]
    requests = [
        {"firstAvailable": options},
        {"exactly": {"deviceClassName": "b", "allocationMode": "All"}},
    ]
    found = count(RESOURCE_CLAIMS, {"spec": {"devices": {"requests": requests}}})
    assert found == {
        "count/resourceclaims.resource.k8s.io": "1",
        "a.deviceclass.resource.k8s.io/devices": "5",
        "b.deviceclass.resource.k8s.io/devices": "32",
    }


def test_other_kinds_are_objects() -> None:
    deployments = GroupResource("apps", "deployments")
    assert count(deployments, {}) == {"count/deployments.apps": "1"}
    secrets = GroupResource("", "secrets")
    assert count(secrets, {}) == {"count/secrets": "1", "secrets": "1"}
    names = ["count/secrets", "secrets", "pods", "count/deployments.apps"]
    assert matching_resources(secrets, names) == ["count/secrets", "secrets"]
    assert matching_resources(deployments, names) == ["count/deployments.apps"]


def test_scopes() -> None:
    quota: Obj = {"spec": {"scopes": ["BestEffort"]}, "status": {"hard": {"pods": "1"}}}
    assert matches_quota(PODS, pod(), quota)
    assert not matches_quota(PODS, pod({"cpu": "1"}), quota)
    term = {"namespaces": ["x"]}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    quota["spec"] = {"scopes": ["CrossNamespacePodAffinity"]}
    far = pod()
    far["spec"]["affinity"] = affinity
    assert matches_quota(PODS, far, quota) and not matches_quota(PODS, pod(), quota)
    selector = {"scopeName": "PriorityClass", "operator": "DoesNotExist"}
    quota["spec"] = {"scopeSelector": {"matchExpressions": [selector]}}
    assert matches_quota(PODS, pod(), quota)
    ranked = pod()
    ranked["spec"]["priorityClassName"] = "high"
    assert not matches_quota(PODS, ranked, quota)


def test_missing_requests() -> None:
    text = missing_constraints(["limits.cpu", "memory", "pods"], pod({"memory": "1"}))
    assert text == "must specify limits.cpu for: c"
