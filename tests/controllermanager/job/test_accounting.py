"""A Job counts each pod once: whatever the order of ends, lost answers and restarts."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.errors import new_internal_error
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_container, make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.job.controller import JobController
from pilothouse.controllermanager.job.indexes import parse
from pilothouse.kubeclient.resources import JOBS, PODS

IGNORED = 7
INDEXED = {"completionMode": "Indexed", "completions": 5, "parallelism": 3}
SPECS: dict[str, dict[str, Any]] = {
    "plain": {"completions": 5, "parallelism": 3, "backoffLimit": 4},
    "queue": {"parallelism": 3, "backoffLimit": 4},
    "indexed": INDEXED | {"backoffLimit": 4},
    "per index": INDEXED
    | {"backoffLimit": 2**31 - 1, "backoffLimitPerIndex": 1, "maxFailedIndexes": 2},
    "success policy": INDEXED
    | {"backoffLimit": 9, "successPolicy": {"rules": [{"succeededIndexes": "1-3",
                                                      "succeededCount": 2}]}},
    "failure policy": {
        "completions": 4, "parallelism": 3, "backoffLimit": 3, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {
            "operator": "In", "values": [IGNORED]}}]},
    },
}  # fmt: skip
ACTION = st.sampled_from(["succeed", "succeed", "fail", "ignored", "wait", "restart", "break"])
STEPS = st.lists(st.tuples(ACTION, st.integers(0, 9)), min_size=4, max_size=30)


def job(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"job": "j"}},
        "spec": {"restartPolicy": "Never", "containers": [make_container()]},
    }
    full = {"selector": {"matchLabels": {"job": "j"}}, "template": template}
    return make_object("batch/v1", "Job", "j", "default", uid="job-uid", spec=full | spec)


class History:
    """What happened to the pods, by our own count."""

    def __init__(self, world: Any, policy: bool) -> None:
        self.world, self.policy = world, policy
        self.ended: dict[str, str] = {}

    def waiting(self) -> list[dict[str, Any]]:
        return sorted(
            (p for p in self.world.client.objects(PODS)
             if p.get("status", {}).get("phase") not in ("Succeeded", "Failed")
             and "deletionTimestamp" not in p["metadata"]),
            key=lambda pod: pod["metadata"]["name"],
        )  # fmt: skip

    def end(self, number: int, action: str) -> None:
        waiting = self.waiting()
        if not waiting:
            return
        pod = copy_object(waiting[number % len(waiting)])
        code = {"succeed": 0, "fail": 1, "ignored": IGNORED}[action]
        now = format_time(self.world.clock.now())
        ended = {"exitCode": code, "finishedAt": now}
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "c", "state": {"terminated": ended}}],
        }
        self.ended[pod["metadata"]["uid"]] = action
        self.world.client.seed(pod)

    def count(self, *actions: str) -> int:
        return sum(action in actions for action in self.ended.values())

    @property
    def failures(self) -> int:
        return self.count("fail") if self.policy else self.count("fail", "ignored")


async def run(new_world: Any, kind: str, steps: list[tuple[str, int]]) -> None:
    world = new_world()
    history = History(world, "podFailurePolicy" in SPECS[kind])
    broken = [0]

    def refuse(*args: Any) -> None:
        if broken[0]:
            broken[0] -= 1
            raise new_internal_error("the answer was lost")

    try:
        await world.run(JobController(world.env))
        world.client.seed(job(**SPECS[kind]))
        world.client.react("update", "jobs/status", refuse)
        world.client.react("patch", "pods", refuse)
        await world.settle()
        before = (0, 0)
        for action, number in steps:
            if action == "wait":
                await world.advance(30)
            elif action == "restart":
                await world.controllers.pop().stop()
                await world.run(JobController(world.env))
            elif action == "break":
                broken[0] = 1
            else:
                history.end(number, action)
            if number % 2:
                await world.settle()
                before = check(world, kind, history, before)
        broken[0] = 0
        await world.advance(2000)
        check(world, kind, history, before)
        check_end(world, history)
    finally:
        await world.stop()


def check(world: Any, kind: str, history: History, before: tuple[int, int]) -> tuple[int, int]:
    status = world.client.current(JOBS, "j", "default").get("status", {})
    waiting = status.get("uncountedTerminatedPods") or {}
    assert not set(waiting.get("succeeded", ())) & set(waiting.get("failed", ()))
    succeeded = status.get("succeeded", 0) + len(waiting.get("succeeded", ()))
    failed = status.get("failed", 0) + len(waiting.get("failed", ()))
    assert succeeded <= history.count("succeed")
    over = {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
    for condition in status.get("conditions", ()):
        if condition["reason"] == "BackoffLimitExceeded":
            assert history.failures > SPECS[kind]["backoffLimit"]
        if condition["reason"] == "CompletionsReached":
            assert history.count("succeed") >= SPECS[kind].get("completions", 1)
    if not over:  # at the end the pods that are stopped count as failed, too
        assert failed <= history.failures
    assert (status.get("succeeded", 0), status.get("failed", 0)) >= before or not before
    if "completionMode" in SPECS[kind]:
        done = parse(status.get("completedIndexes", ""), 5)
        lost = parse(status.get("failedIndexes", ""), 5)
        assert not done & lost
        assert status.get("succeeded", 0) == len(done)
    return status.get("succeeded", 0), status.get("failed", 0)


def check_end(world: Any, history: History) -> None:
    """With all answers in: nothing is missing either."""
    status = world.client.current(JOBS, "j", "default").get("status", {})
    assert not any((status.get("uncountedTerminatedPods") or {}).values())
    over = {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
    if not over:
        assert status.get("succeeded", 0) == history.count("succeed")
        assert status.get("failed", 0) == history.failures
    assert not over & {"Complete"} or not over & {"Failed"}
    ended = [p for p in world.client.objects(PODS)
             if p.get("status", {}).get("phase") in ("Succeeded", "Failed")]  # fmt: skip
    assert not any(pod["metadata"].get("finalizers") for pod in ended)


@given(st.sampled_from(sorted(SPECS)), STEPS)
@settings(max_examples=60)
def test_each_pod_counts_once(new_world, kind, steps):
    asyncio.run(run(new_world, kind, steps))
