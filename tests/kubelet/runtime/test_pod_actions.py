"""compute_pod_actions by tables: sandboxes, init containers, sidecars, restarts, probes."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.kubelet.runtime.interfaces import ContainerStatus, SandboxStatus
from pilothouse.kubelet.runtime.pod_actions import (
    HASH_LABEL,
    PodActions,
    PodRuntimeStatus,
    ProbeResults,
    compute_pod_actions,
    container_hash,
)


def pod(
    *names: str, init: tuple[dict[str, Any], ...] = (), policy: str = "Always", **spec: Any
) -> dict[str, Any]:
    containers = [{"name": name, "image": "i"} for name in names]
    return {
        "metadata": {"uid": "u", "name": "p"},
        "spec": {"containers": containers, "initContainers": list(init), "restartPolicy": policy}
        | spec,
    }


def sandbox(
    state: str = "ready", attempt: int = 0, ips: tuple[str, ...] = ("10.0.0.1",)
) -> SandboxStatus:
    return SandboxStatus(f"s{attempt}", "p", "ns", "u", attempt, state, 1.0, ips, False, {}, {})  # type: ignore[arg-type]


def container(
    name: str, state: str = "running", code: int = 0, attempt: int = 0, image: str = "i"
) -> ContainerStatus:
    labels = {HASH_LABEL: container_hash({"name": name, "image": image})}
    return ContainerStatus(
        f"{name}{attempt}", "s0", name, attempt, state, image, "sha", 1.0, 1.0, 2.0, code,  # type: ignore[arg-type]
        labels=labels,
    )  # fmt: skip


def status(*containers: ContainerStatus, box: SandboxStatus | None = None) -> PodRuntimeStatus:
    by_name: dict[str, tuple[ContainerStatus, ...]] = {}
    for c in containers:
        by_name[c.name] = (*by_name.get(c.name, ()), c)
    return PodRuntimeStatus((box or sandbox(),), by_name)


def starts(actions: PodActions) -> list[str]:
    return [s.name for s in actions.start]


def test_new_pod_gets_a_sandbox_and_all_containers() -> None:
    actions = compute_pod_actions(pod("a", "b"), PodRuntimeStatus())
    assert actions.create_sandbox and not actions.kill_pod
    assert starts(actions) == ["a", "b"]


def test_new_pod_with_init_containers_starts_the_first() -> None:
    actions = compute_pod_actions(
        pod("a", init=({"name": "i1"}, {"name": "i2"})), PodRuntimeStatus()
    )
    assert starts(actions) == ["i1"]


def test_running_pod_needs_nothing() -> None:
    assert compute_pod_actions(pod("a"), status(container("a"))).nothing


@pytest.mark.parametrize("box", [sandbox("notready"), sandbox(ips=())])
def test_dead_sandbox_is_replaced(box: SandboxStatus) -> None:
    actions = compute_pod_actions(pod("a"), status(container("a", "exited"), box=box))
    assert actions.kill_pod and actions.create_sandbox and actions.attempt == 1
    assert starts(actions) == ["a"]


def test_dead_sandbox_of_a_finished_pod_is_not_replaced() -> None:
    done = status(container("a", "exited"), box=sandbox("notready"))
    for policy in ("Never", "OnFailure"):
        actions = compute_pod_actions(pod("a", policy=policy), done)
        assert not actions.create_sandbox and not actions.start


@pytest.mark.parametrize(
    ("policy", "code", "restarted"),
    [
        ("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False),
        ("OnFailure", 1, True), ("Never", 0, False), ("Never", 1, False),
    ],
)  # fmt: skip
def test_restart_policy(policy: str, code: int, restarted: bool) -> None:
    actions = compute_pod_actions(
        pod("a", "b", policy=policy), status(container("a", "exited", code), container("b"))
    )
    assert starts(actions) == (["a"] if restarted else [])
    assert not actions.kill_pod


def test_pod_whose_containers_are_all_done_is_killed() -> None:
    actions = compute_pod_actions(pod("a", policy="Never"), status(container("a", "exited", 3)))
    assert actions.kill_pod and not actions.start


def test_init_containers_run_in_order_and_block_the_rest() -> None:
    two = pod("a", init=({"name": "i1"}, {"name": "i2"}))
    assert compute_pod_actions(two, status(container("i1"))).nothing
    assert starts(compute_pod_actions(two, status(container("i1", "exited")))) == ["i2"]
    both = status(container("i1", "exited"), container("i2", "exited"))
    assert starts(compute_pod_actions(two, both)) == ["a"]


def test_failed_init_container_is_repeated_or_fails_the_pod() -> None:
    failed = status(container("i1", "exited", 1))
    assert starts(compute_pod_actions(pod("a", init=({"name": "i1"},)), failed)) == ["i1"]
    actions = compute_pod_actions(pod("a", init=({"name": "i1"},), policy="Never"), failed)
    assert actions.kill_pod and not actions.start


def test_removed_init_container_is_not_run_again() -> None:
    assert compute_pod_actions(pod("a", init=({"name": "i1"},)), status(container("a"))).nothing


def test_sidecar_starts_before_and_stays() -> None:
    with_sidecar = pod("a", init=({"name": "s", "restartPolicy": "Always"},))
    assert starts(compute_pod_actions(with_sidecar, status())) == ["s"]
    assert starts(compute_pod_actions(with_sidecar, status(container("s")))) == ["a"]
    ended = status(container("s", "exited"), container("a"))
    assert starts(compute_pod_actions(with_sidecar, ended)) == ["s"]


def test_sidecar_with_startup_probe_holds_the_rest_until_it_has_started() -> None:
    probe: dict[str, Any] = {"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}
    waiting = pod("a", init=(probe,))
    assert compute_pod_actions(waiting, status(container("s"))).nothing
    started = ProbeResults(started=frozenset({"s0"}))
    assert starts(compute_pod_actions(waiting, status(container("s")), started)) == ["a"]


def test_changed_image_restarts_only_that_container() -> None:
    actions = compute_pod_actions(
        pod("a", "b"), status(container("a", image="old"), container("b"))
    )
    assert [k.message for k in actions.kill] == [
        "Container a definition changed, will be restarted"
    ]
    assert starts(actions) == ["a"]


@pytest.mark.parametrize(("policy", "restarted"), [("Always", ["a"]), ("Never", [])])
def test_failed_liveness_probe(policy: str, restarted: list[str]) -> None:
    failed = ProbeResults(liveness_failed=frozenset({"a0"}))
    actions = compute_pod_actions(pod("a", policy=policy), status(container("a")), failed)
    assert [k.reason for k in actions.kill] == ["unhealthy"]
    assert actions.kill[0].message.startswith("Container a failed liveness probe")
    assert starts(actions) == restarted


def test_ephemeral_container_is_started_once() -> None:
    debugged = pod("a", ephemeralContainers=[{"name": "debugger"}])
    assert starts(compute_pod_actions(debugged, status(container("a")))) == ["debugger"]
    ended = status(container("a"), container("debugger", "exited"))
    assert compute_pod_actions(debugged, ended).nothing


def test_a_container_that_restarts_all_is_not_restarted_alone() -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    made = pod("a", "b", policy="Never")
    made["spec"]["containers"][0] |= {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    ended = status(container("a", "exited", 42), container("b"))
    assert compute_pod_actions(made, ended).nothing
    actions = compute_pod_actions(made, ended, restart_all=True)
    assert [(r.name, r.kill) for r in actions.reset] == [("b", True), ("a", False)]
    assert starts(compute_pod_actions(made, status(container("a", "exited", 1)))) == ["b"]
