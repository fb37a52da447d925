"""In-place resize: which running containers get other limits, and how."""

from __future__ import annotations

from typing import Any

from pilothouse.kubelet.runtime.container_specs import container_resources, pod_resources
from pilothouse.kubelet.runtime.interfaces import ContainerStatus, Resources
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus
from pilothouse.kubelet.runtime.resizes import (
    RESOURCES_ANNOTATION,
    GivenResources,
    annotation,
    changed_resources,
    effective_resources,
    pending,
    widest,
)


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}


def running(given: dict[str, Any]) -> PodRuntimeStatus:
    status = ContainerStatus(
        "id1", "box", "c", 0, "running", "busybox", "sha", 0.0,
        annotations={RESOURCES_ANNOTATION: annotation(pod(given), given)},
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
    given.note("id1", effective_resources(pod(wanted), wanted))
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


def test_a_plain_init_container_that_runs_is_resized() -> None:
    wanted = {"spec": {"initContainers": [container("2")], "containers": []}}
    (resize,) = pending(wanted, running(container("1")), GivenResources())
    assert not resize.restart


def with_pod_limits(**limits: str) -> dict[str, Any]:
    made = pod(container("100m"), {"name": "d"})
    made["metadata"] = {"name": "p"}
    made["spec"]["resources"] = {"limits": limits}
    return made


def test_containers_without_a_limit_have_their_pods() -> None:
    limited = with_pod_limits(cpu="1", memory="1Mi")
    for spec in limited["spec"]["containers"]:
        given = container_resources(limited, spec, 0)
        assert (given.cpu_quota, given.memory_limit) == (100_000, 1 << 20)
    before = running_in(with_pod_limits(cpu="1", memory="1Mi"))
    due = pending(with_pod_limits(cpu="2", memory="1Mi"), before, GivenResources())
    assert [resize.container["name"] for resize in due] == ["c"]


def running_in(made: dict[str, Any]) -> PodRuntimeStatus:
    first = made["spec"]["containers"][0]
    status = ContainerStatus(
        "id1", "box", "c", 0, "running", "busybox", "sha", 0.0,
        annotations={RESOURCES_ANNOTATION: annotation(made, first)},
    )  # fmt: skip
    return PodRuntimeStatus(containers={"c": (status,)})


def test_a_pod_has_a_limit_when_all_its_containers_have() -> None:
    half = {"name": "d", "resources": {"limits": {"cpu": "500m", "memory": "1Mi"}}}
    both = {"metadata": {}, "spec": {"containers": [half, {**half, "name": "e"}]}}
    one = {"metadata": {}, "spec": {"containers": [half, {"name": "e"}]}}
    assert pod_resources(both).cpu_quota == 100_000
    assert pod_resources(both).memory_limit == 2 << 20
    assert pod_resources(one) == Resources(cpu_shares=2)
    assert pod_resources(with_pod_limits(memory="3Mi")).memory_limit == 3 << 20
    assert pod_resources(one, pids_limit=7).pids_limit == 7


def test_the_widest_of_two_limits_is_none_when_one_is() -> None:
    small, large = Resources(2, 1000, memory_limit=5), Resources(9, 500, memory_limit=0)
    assert widest(small, large) == Resources(9, 1000, memory_limit=0)
