"""The end of a node: pods by priority, with the time that each has."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilothouse.apimachinery.object import condition_of
from pilothouse.kubeclient.resources import NODES, PODS
from pilothouse.kubelet.node_shutdown import group_by_priority

from .test_kubelet import pod, running

PERIODS = ((0, 20), (1000, 10))


def with_priority(name: str, priority: int | None, **spec: Any) -> dict[str, Any]:
    made = pod(name, **spec)
    if priority is not None:
        made["spec"]["priority"] = priority
    return made


def test_pods_belong_to_the_period_at_or_below_their_priority() -> None:
    pods = [with_priority(str(p), p) for p in (-5, None, 999, 1000, 9999)]
    groups = group_by_priority(PERIODS, pods)
    names = [(seconds, [p["metadata"]["name"] for p in group]) for seconds, group in groups]
    assert names == [(20, ["-5", "None", "999"]), (10, ["1000", "9999"])]
    assert group_by_priority(((5, 1),), pods[:1])[0][1] == pods[:1]


async def test_all_pods_end_and_none_comes_in(tmp_path: Path) -> None:
    pods = [with_priority("low", 0), with_priority("high", 2000)]
    async with running(tmp_path, *pods) as world:
        kubelet = world.kubelet
        await kubelet.shutdown.run()
        assert world.pod("low")["status"]["phase"] == "Running", "no periods: nothing happens"
        kubelet.config = replace(kubelet.config, shutdown_periods=PERIODS)
        order: list[str] = []
        real = kubelet.workers.terminate

        def terminate(uid: str, failure: tuple[str, str] | None, grace: int | None) -> None:
            low = world.pod("low")
            order.append(f"{uid == low['metadata']['uid']} {low['status']['phase']} {grace}")
            real(uid, failure, grace)

        kubelet.workers.terminate = terminate  # type: ignore[method-assign]
        ending = asyncio.create_task(kubelet.shutdown.run())
        for _ in range(100):
            await asyncio.sleep(0)
            world.clock.advance(1)
            await world.settle()
        await ending
        own = world.pod("low")["spec"].get("terminationGracePeriodSeconds", 99)
        assert order == [f"True Running {min(own, 20)}", f"False Failed {min(own, 10)}"]
        for name in ("low", "high"):
            status = world.pod(name)["status"]
            assert (status["phase"], status["reason"]) == ("Failed", "Terminated")
            disrupted = condition_of(world.pod(name), "DisruptionTarget")
            assert disrupted is not None and disrupted["reason"] == "TerminationByKubelet"
        node = world.client.current(NODES, "n1")
        assert node is not None
        ready = condition_of(node, "Ready")
        assert ready is not None
        assert (ready["status"], ready["message"]) == ("False", "node is shutting down")
        await world.client.create(PODS, with_priority("late", 0), "default")
        await world.settle()
        await world.later(1)
        late = world.pod("late")["status"]
        assert (late["phase"], late["reason"], late["message"]) == (
            "Failed", "NodeShutdown", "Pod was rejected as the node is shutting down.",
        )  # fmt: skip
