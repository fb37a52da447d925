"""Cells of ``kubectl get``: pods, nodes, services, workloads, events."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.testing import START
from pilothouse.apiserver.registry.strategies import strategy_for

Obj = dict[str, Any]


def row(resource: str, obj: Obj) -> dict[str, Any]:
    name, _, group = resource.partition(".")
    strategy = strategy_for(GroupResource(group, name))
    obj.setdefault("metadata", {}).setdefault("name", "x")
    obj["metadata"].setdefault("creationTimestamp", "2025-12-31T23:55:00Z")
    columns = [column.name for column in strategy.columns]
    return dict(zip(columns, strategy.row(obj, START), strict=True))


def pod(status: Obj, count: int = 1, **spec: Any) -> Obj:
    containers = [{"name": f"c{i}", "image": "x"} for i in range(count)]
    return {"spec": {"containers": containers, **spec}, "status": status}


def waiting(reason: str) -> Obj:
    return {"name": "c0", "restartCount": 2, "state": {"waiting": {"reason": reason}}}


RUNNING = {"name": "c0", "ready": True, "restartCount": 0, "state": {"running": {}}}
DONE = {"name": "i", "state": {"terminated": {"exitCode": 0}}, "restartCount": 0}

PODS: list[tuple[Obj, tuple[str, str, str]]] = [
    (pod({"phase": "Pending"}), ("0/1", "Pending", "0")),
    (pod({"phase": "Running", "containerStatuses": [RUNNING]}), ("1/1", "Running", "0")),
    (
        pod({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}),
        ("0/1", "CrashLoopBackOff", "2"),
    ),
    (
        pod(
            {
                "phase": "Succeeded",
                "containerStatuses": [
                    {"name": "c0", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
                ],
            }
        ),
        ("0/1", "Completed", "0"),
    ),
    (
        pod(
            {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {}}]},
            initContainers=[{"name": "i"}],
        ),
        ("0/1", "Init:0/1", "0"),
    ),
    (
        pod(
            {
                "phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}],
            },
            initContainers=[{"name": "i"}],
        ),
        ("0/1", "Init:ExitCode:3", "0"),
    ),
    (pod({"phase": "Failed", "reason": "Evicted"}), ("0/1", "Evicted", "0")),
    (
        pod(
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}],
            }
        ),
        ("0/1", "SchedulingGated", "0"),
    ),
]


@pytest.mark.parametrize(("obj", "expected"), PODS)
def test_pods(obj: Obj, expected: tuple[str, str, str]) -> None:
    cells = row("pods", obj)
    assert (cells["Ready"], cells["Status"], cells["Restarts"]) == expected
    assert cells["Age"] == "5m"


def test_a_pod_that_goes() -> None:
    obj = pod({"phase": "Running", "containerStatuses": [RUNNING]})
    obj["metadata"] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert row("pods", obj)["Status"] == "Terminating"


def test_nodes() -> None:
    obj: Obj = {
        "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
        },
    }
    cells = row("nodes", obj)
    assert cells["Status"] == "Ready,SchedulingDisabled"
    assert cells["Roles"] == "control-plane"
    assert (cells["Internal-IP"], cells["External-IP"]) == ("10.0.0.1", "<none>")
    obj["status"]["conditions"][0]["status"] = "Unknown"
    assert row("nodes", obj)["Status"] == "NotReady,SchedulingDisabled"


def test_services() -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]
    spec = {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": ports}
    cells = row("services", {"spec": spec})
    assert (cells["Cluster-IP"], cells["External-IP"]) == ("10.0.0.1", "<none>")
    assert cells["Port(s)"] == "80:30080/TCP,53/UDP"
    external = {"type": "ExternalName", "externalName": "a.b"}
    assert row("services", {"spec": external})["External-IP"] == "a.b"
    balanced = {**spec, "type": "LoadBalancer"}
    assert row("services", {"spec": balanced})["External-IP"] == "<pending>"


def test_workloads() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    selector = {"matchLabels": {"a": "b"}}
    spec = {"replicas": 3, "template": template, "selector": selector}
    status = {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}
    cells = row("deployments.apps", {"spec": spec, "status": status})
    assert [cells[c] for c in ("Ready", "Up-to-date", "Available")] == ["2/3", 3, 1]
    assert [cells[c] for c in ("Containers", "Images", "Selector")] == ["c", "i", "a=b"]
    cells = row("replicasets.apps", {"spec": spec, "status": status})
    assert [cells[c] for c in ("Desired", "Current", "Ready")] == [3, 3, 2]


def test_jobs() -> None:
    times = {"startTime": "2025-12-31T23:56:00Z", "completionTime": "2025-12-31T23:56:30Z"}
    complete = [{"type": "Complete", "status": "True"}]
    obj = {"spec": {"completions": 1}, "status": {**times, "succeeded": 1, "conditions": complete}}
    cells = row("jobs.batch", obj)
    assert [cells[c] for c in ("Status", "Completions", "Duration")] == ["Complete", "1/1", "30s"]


def test_events() -> None:
    event = {
        "type": "Normal",
        "reason": "Pulled",
        "message": " hi ",
        "involvedObject": {"kind": "Pod", "name": "a"},
        "lastTimestamp": "2025-12-31T23:59:00Z",
    }
    cells = row("events", event)
    assert (cells["Last Seen"], cells["Object"], cells["Message"]) == ("60s", "pod/a", "hi")
