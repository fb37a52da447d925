"""restartPolicyRules and RestartAllContainers: whole lives with the fake runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.object import condition_of

from .test_kubelet import World, pod, running


def container(name: str, policy: str = "Never", **rules: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "image": "busybox"}
    if policy:
        made["restartPolicy"] = policy
    if rules:
        made["restartPolicyRules"] = [
            {"action": action, "exitCodes": {"operator": operator, "values": values}}
            for action, (operator, values) in rules.items()
        ]
    return made


def state_of(world: World, name: str, container_name: str) -> dict[str, Any]:
    status = world.pod(name)["status"]
    listed = [*status["containerStatuses"], *(status.get("initContainerStatuses") or ())]
    found: dict[str, Any] = next(s for s in listed if s["name"] == container_name)
    return found


async def exit_with(world: World, name: str, container_name: str, code: int) -> None:
    id_ = state_of(world, name, container_name)["containerID"].rpartition("/")[2]
    world.runtime.finish_container(id_, code)
    await world.settle()


async def test_a_rule_restarts_a_container_of_a_pod_that_never_restarts(tmp_path: Path) -> None:
    ruled = pod("ruled", restartPolicy="Never", containers=[
        container("c", Restart=("In", [42])), container("other", "")
    ])  # fmt: skip
    async with running(tmp_path, ruled) as world:
        await exit_with(world, "ruled", "c", 42)
        assert state_of(world, "ruled", "c")["restartCount"] == 1
        await exit_with(world, "ruled", "c", 42)
        assert "CrashLoopBackOff" in str(state_of(world, "ruled", "c")["state"])
        assert world.pod("ruled")["status"]["phase"] == "Running"
        await world.later(10)
        await exit_with(world, "ruled", "c", 1)
        assert state_of(world, "ruled", "c")["state"]["terminated"]["exitCode"] == 1
        await exit_with(world, "ruled", "other", 0)
        assert world.pod("ruled")["status"]["phase"] == "Failed"


@pytest.mark.parametrize(
    ("policy", "own", "code", "phase"),
    [
        ("Never", "OnFailure", 1, "Running"),
        ("Never", "Always", 0, "Running"),
        ("Always", "Never", 0, "Succeeded"),
        ("Always", "OnFailure", 0, "Succeeded"),
        ("OnFailure", "Never", 3, "Failed"),
    ],
)
async def test_a_containers_own_policy(
    tmp_path: Path, policy: str, own: str, code: int, phase: str
) -> None:
    own_policy = pod("own", restartPolicy=policy, containers=[container("c", own)])
    async with running(tmp_path, own_policy) as world:
        await exit_with(world, "own", "c", code)
        assert world.pod("own")["status"]["phase"] == phase


async def test_a_failed_init_container_may_be_restarted_by_a_rule(tmp_path: Path) -> None:
    init = container("i", Restart=("In", [7])) | {"command": ["sh", "-c", "exit 7"]}
    with_init = pod("init", restartPolicy="Never", initContainers=[init])
    async with running(tmp_path, with_init) as world:
        await world.later(10)
        assert world.pod("init")["status"]["phase"] == "Pending"
        assert state_of(world, "init", "i")["restartCount"] == 2
        assert "CrashLoopBackOff" in str(state_of(world, "init", "i")["state"])


async def test_all_containers_restart_in_the_same_sandbox(tmp_path: Path) -> None:
    everything = pod("all", restartPolicy="Never", initContainers=[{"name": "i", "image": "x"}],
        containers=[container("c", RestartAllContainers=("In", [42])), container("other", "")]
    )  # fmt: skip
    async with running(tmp_path, everything) as world:
        sandbox = world.kubelet.cache.get("uid-all").sandbox
        condition = condition_of(world.pod("all"), "AllContainersRestarting")
        assert condition is not None and condition["status"] == "False"
        before = state_of(world, "all", "other")["containerID"]
        for count in (1, 2):
            await exit_with(world, "all", "c", 42)
            for name in ("i", "c", "other"):
                status = state_of(world, "all", name)
                assert status["restartCount"] == count, name
                last = status["lastState"]["terminated"]
                assert last["reason"] == "RestartingAllContainers"
                assert last["exitCode"] == 137
            assert world.pod("all")["status"]["phase"] == "Running"
        assert state_of(world, "all", "other")["containerID"] != before
        assert world.kubelet.cache.get("uid-all").sandbox == sandbox
        for type_, wanted in (("AllContainersRestarting", "False"), ("Initialized", "True")):
            condition = condition_of(world.pod("all"), type_)
            assert condition is not None and condition["status"] == wanted
        await exit_with(world, "all", "c", 0)
        await exit_with(world, "all", "other", 0)
        assert world.pod("all")["status"]["phase"] == "Succeeded"


async def test_a_kubelet_that_starts_anew_finishes_the_restart_of_all(tmp_path: Path) -> None:
    everything = pod("all", restartPolicy="Never",
        containers=[container("c", RestartAllContainers=("In", [42])), container("other", "")]
    )  # fmt: skip
    world = World(tmp_path, everything)
    await world.kubelet.start()
    await world.settle()
    id_ = state_of(world, "all", "c")["containerID"].rpartition("/")[2]
    await world.kubelet.stop()
    world.runtime.finish_container(id_, 42)
    world.kubelet = world.make()
    await world.kubelet.start()
    await world.settle()
    try:
        assert state_of(world, "all", "other")["restartCount"] == 1
        assert "running" in state_of(world, "all", "c")["state"]
    finally:
        await world.kubelet.stop()
        await world.env.informers.stop()
