"""In-place resize: which running containers get other limits, and how."""

from __future__ import annotations

from typing import Any

from pilothouse.kubelet.runtime.interfaces import ContainerStatus
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus
from pilothouse.kubelet.runtime.resizes import (
    RESOURCES_ANNOTATION,
    GivenResources,
    annotation,
    changed_resources,
    pending,
)


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}


def running(given: dict[str, Any]) -> PodRuntimeStatus:
    status = ContainerStatus(
        "id1", "box", "c", 0, "running", "busybox", "sha", 0.0,
        annotations={RESOURCES_ANNOTATION: annotation(given)},
    )  # fmt: skip
    return PodRuntimeStatus(containers={"c": (status,)})


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(containers)}}


def test_same_amounts_in_other_words_are_no_resize() -> None:
    assert pending(pod(container("1000m")), running(container("1")), GivenResources()) == []
    assert changed_resources({"limits": {"memory": "1Ki"}}, {"limits": {"memory": "1024"}}) == set()


def test_change_is_due_until_noted() -> None:
    given, wanted = GivenResources(), container("2")
    (resize,) = pending(pod(wanted), running(container("1")), given)
    assert (resize.id, resize.restart) == ("id1", False)
    given.note("id1", wanted)
    assert pending(pod(wanted), running(container("1")), given) == []
    assert len(pending(pod(container("1")), running(container("1")), given)) == 1


def test_policy_of_a_changed_resource_restarts() -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    (cpu,) = pending(
        pod(container("2", resizePolicy=policy)), running(container("1")), GivenResources()
    )
    assert not cpu.restart
    wanted = container("1", resizePolicy=policy)
    wanted["resources"]["limits"] = {"memory": "1Gi"}
    (memory,) = pending(pod(wanted), running(container("1")), GivenResources())
    assert memory.restart


def test_limits_where_there_were_none() -> None:
    nothing = {"name": "c"}
    assert len(pending(pod(container("1")), running(nothing), GivenResources())) == 1
