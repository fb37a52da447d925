"""Phases, container states and conditions as upstream's kubelet reports them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilothouse.apimachinery.object import condition_of
from pilothouse.kubelet.pod_phase import pod_phase
from pilothouse.kubelet.pod_status import StatusInputs, generate_status
from pilothouse.kubelet.runtime.interfaces import ContainerStatus, Resources, SandboxStatus
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus
from pilothouse.kubelet.status_manager import status_patch

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNNING: dict[str, Any] = {"running": {}}
WAITING: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}


def ended(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code}}


def states(*listed: dict[str, Any], last: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [
        {"name": f"c{i}", "state": s, "lastState": last or {}, "ready": False, "restartCount": 0}
        for i, s in enumerate(listed)
    ]


@pytest.mark.parametrize(
    ("policy", "containers", "phase"),
    [
        ("Always", states(WAITING), "Pending"),
        ("Always", states(RUNNING), "Running"),
        ("Always", states(RUNNING, WAITING), "Pending"),
        ("Always", states(ended(0)), "Running"),
        ("Never", states(ended(0)), "Succeeded"),
        ("Never", states(ended(0), ended(1)), "Failed"),
        ("Never", states(ended(1), RUNNING), "Running"),
        ("OnFailure", states(ended(0)), "Succeeded"),
        ("OnFailure", states(ended(1)), "Running"),
        ("Always", states(WAITING, last=ended(1)), "Running"),
    ],
)
def test_phase(policy: str, containers: list[dict[str, Any]], phase: str) -> None:
    assert pod_phase({"restartPolicy": policy}, containers, []) == phase


def test_phase_with_init_containers() -> None:
    waiting = states({"waiting": {"reason": "PodInitializing"}})
    assert pod_phase({"restartPolicy": "Always"}, waiting, states(RUNNING)) == "Pending"
    assert pod_phase({"restartPolicy": "Always"}, waiting, states(ended(1))) == "Pending"
    assert pod_phase({"restartPolicy": "Never"}, waiting, states(ended(1))) == "Failed"


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u", "name": "p", "namespace": "ns", "generation": 1},
        "spec": {"containers": [{"name": "c", "image": "i"}]} | spec,
        "status": {},
    }


def container(state: str, attempt: int = 0, code: int = 0, **more: Any) -> ContainerStatus:
    return ContainerStatus(
        f"id{attempt}",
        "s",
        "c",
        attempt,
        state,
        "i",
        "sha",
        10.0,
        11.0,
        12.0,
        code,
        **more,  # type: ignore[arg-type]
    )


def generate(obj: dict[str, Any], *containers: ContainerStatus, **inputs: Any) -> dict[str, Any]:
    box = SandboxStatus("s", "p", "ns", "u", 0, "ready", 1.0, ("10.0.0.9",), False, {}, {})
    runtime = PodRuntimeStatus((box,), {"c": containers} if containers else {})
    return generate_status(obj, StatusInputs(runtime, "crun", NOW, ("10.0.0.1",), **inputs))


def test_running_pod_is_ready() -> None:
    status = generate(
        pod(), container("running"), ready=frozenset({"id0"}), started=frozenset({"id0"})
    )
    assert (status["phase"], status["podIP"], status["hostIP"]) == (
        "Running",
        "10.0.0.9",
        "10.0.0.1",
    )
    (c,) = status["containerStatuses"]
    assert (c["containerID"], c["ready"], c["started"]) == ("crun://id0", True, True)
    assert c["state"] == {"running": {"startedAt": "1970-01-01T00:00:11Z"}}
    assert all(x["status"] == "True" for x in status["conditions"])


def test_container_tells_whom_it_runs_as() -> None:
    user = {"uid": 1, "gid": 2, "supplementalGroups": [2]}
    (c,) = generate(pod(), container("running", user=user))["containerStatuses"]
    assert c["user"] == {"linux": user}
    (c,) = generate(pod(), container("running"))["containerStatuses"]
    assert "user" not in c


def test_unready_container_names_itself() -> None:
    status = generate(pod(), container("running"), started=frozenset({"id0"}))
    ready = condition_of({"status": status}, "Ready")
    assert ready is not None and ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [c]"


def test_restarted_container_keeps_its_last_state() -> None:
    status = generate(pod(), container("running", 1), container("exited", 0, code=3))
    (c,) = status["containerStatuses"]
    assert c["restartCount"] == 1
    assert c["lastState"]["terminated"]["exitCode"] == 3
    assert c["lastState"]["terminated"]["reason"] == "Error"


def test_backing_off_container_waits_with_its_reason() -> None:
    waiting = {"c": ("CrashLoopBackOff", "back-off 10s restarting failed container=c")}
    status = generate(pod(), container("exited", code=1), waiting=waiting)
    (c,) = status["containerStatuses"]
    assert c["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert c["lastState"]["terminated"]["exitCode"] == 1
    assert status["phase"] == "Running"


def test_killed_for_memory() -> None:
    status = generate(pod(restartPolicy="Never"), container("exited", code=137, reason="OOMKilled"))
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"


def test_final_phase_never_changes() -> None:
    done = pod(restartPolicy="Never")
    done["status"] = {"phase": "Failed", "reason": "Evicted", "message": "m"}
    status = generate(done, container("exited", code=0))
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")


def test_readiness_gate_holds_ready_back() -> None:
    gated = pod(readinessGates=[{"conditionType": "example.com/ok"}])
    status = generate(gated, container("running"), ready=frozenset({"id0"}))
    ready = condition_of({"status": status}, "Ready")
    assert ready is not None and ready["reason"] == "ReadinessGatesNotReady"


def test_patch_has_only_changes_and_leaves_foreign_conditions() -> None:
    status = generate(pod(), container("running"), ready=frozenset({"id0"}))
    foreign = {"type": "example.com/ok", "status": "True"}
    old = status | {"conditions": [foreign, *status["conditions"]]}
    assert status_patch(old, status) is None
    changed = generate(pod(), container("running"))
    patch = status_patch(old, changed)
    assert patch is not None
    assert {c["type"] for c in patch["conditions"]} == {"Ready", "ContainersReady"}
    assert set(patch) == {"conditions", "containerStatuses"}


def test_conditions_tell_the_generation_the_kubelet_has_seen() -> None:
    obj = pod()
    obj["metadata"]["generation"] = 3
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01"}
    obj["status"] = {"conditions": [scheduled]}
    status = generate(obj)
    assert {c["observedGeneration"] for c in status["conditions"]} == {3}
    found = condition_of({"status": status}, "PodScheduled")
    assert found is not None and found["lastTransitionTime"] == "2026-01-01"


def test_condition_loses_its_reason_by_null() -> None:
    bad, good = (
        generate(pod(), container("running")),
        generate(pod(), container("running"), ready=frozenset({"id0"})),
    )
    patch = status_patch(bad, good)
    assert patch is not None
    assert all(c["reason"] is None and c["message"] is None for c in patch["conditions"])


def test_until_a_resize_is_done_the_status_tells_what_there_is() -> None:
    wanted = {"requests": {"memory": "10Ki", "cpu": "2"}, "limits": {"memory": "10Ki"}}
    obj = pod(containers=[{"name": "c", "image": "i", "resources": wanted}])
    have = {"requests": {"memory": "15Mi", "cpu": "2000m"}, "limits": {"memory": "15Mi"}}
    running = container("running")
    status = generate(obj, running, given={"id0": have},
                      given_pod=Resources(cpu_shares=2048, memory_limit=15 << 20))  # fmt: skip
    (c,) = status["containerStatuses"]
    assert c["resources"] == {
        "requests": {"memory": "15Mi", "cpu": "2"}, "limits": {"memory": "15Mi"}
    }  # fmt: skip
    assert c["allocatedResources"] == wanted["requests"]
    assert status["resources"] == {
        "requests": wanted["requests"], "limits": {"memory": "15Mi"}
    }  # fmt: skip
    (c,) = generate(obj, running)["containerStatuses"]
    assert c["resources"] == wanted
