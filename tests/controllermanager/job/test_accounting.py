"""A Job counts each pod once: whatever the order of ends, lost answers, late news and deaths.

The controller may die right before or after any of its writes, and its informers may show the past
of pods or of the Job for as long as a run likes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.errors import new_internal_error
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import make_container, make_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.controllermanager.job.controller import JobController
from pilothouse.controllermanager.job.indexes import parse
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import JOBS, PODS
from pilothouse.kubeclient.testing import FakeClient

IGNORED = 7
INDEXED = {"completionMode": "Indexed", "completions": 5, "parallelism": 3}
SPECS: dict[str, dict[str, Any]] = {
    "plain": {"completions": 5, "parallelism": 3, "backoffLimit": 4},
    "short": {"completions": 2, "parallelism": 2, "backoffLimit": 1},
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
ACTION = st.sampled_from(
    ["succeed", "succeed", "fail", "fail", "ignored", "wait", "restart", "refuse", "lose", "crash",
     "late pods", "late pods", "late job"]
)  # fmt: skip
PATIENCE = 40
STEPS = st.lists(st.tuples(ACTION, st.integers(0, 9)), min_size=20, max_size=40)


class UnreliableClient(FakeClient):
    """The controller's: writes fail before or after they are done, watches are late."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.trouble = ""
        """What becomes of the write that the countdown ends at: "refuse", "lose", "die", "died"."""
        self.countdown = 0
        self.dead = asyncio.Event()
        self.created: set[str] = set()
        self.late: set[Any] = set()
        self.patience = 0
        """Writes until late news come by themselves: a controller that acts on the past may do so
        again and again, but not for ever."""
        self._held: list[tuple[Any, Any, Any, Any]] = []

    async def _write(self, write: Any) -> Any:
        if self.dead.is_set():
            await asyncio.Future()
        self.countdown -= 1
        trouble = self.trouble if self.countdown == 0 else ""
        if trouble == "refuse":
            raise new_internal_error("no")
        if trouble == "die":
            self.dead.set()
            await asyncio.Future()
        answer = await write
        if trouble == "lose":
            raise ConnectionError("the answer was lost")
        if trouble == "died":
            self.dead.set()
            await asyncio.Future()
        return answer

    async def create(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        if resource != PODS:
            return await super().create(resource, *args, **kwargs)

        async def write() -> Any:
            created = await FakeClient.create(self, resource, *args, **kwargs)
            self.created.add(created["metadata"]["uid"])
            return created

        return await self._guarded(write)

    async def update(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._guarded(lambda: FakeClient.update(self, resource, *args, **kwargs))

    async def patch(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._guarded(lambda: FakeClient.patch(self, resource, *args, **kwargs))

    async def delete(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._guarded(lambda: FakeClient.delete(self, resource, *args, **kwargs))

    async def _guarded(self, write: Any) -> Any:
        coroutine = write()
        if self.late:
            self.patience -= 1
            if self.patience <= 0:
                self.catch_up()
        try:
            return await self._write(coroutine)
        finally:
            coroutine.close()

    async def watch(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        watch = await super().watch(resource, *args, **kwargs)
        push = watch.push

        def late_push(event: Any, old: Any) -> None:
            if resource in self.late:
                self._held.append((resource, push, event, old))
            else:
                push(event, old)

        watch.push = late_push
        return watch

    def catch_up(self) -> None:
        self.late.clear()
        held, self._held = self._held, []
        for _, push, event, old in held:
            push(event, old)


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
    def uncounted(self) -> int:
        return self.count("ignored") if self.policy else 0

    @property
    def failures(self) -> int:
        return self.count("fail") if self.policy else self.count("fail", "ignored")


class Run:
    def __init__(self, new_world: Any, kind: str) -> None:
        world = self.world = new_world()
        self.kind = kind
        self.client = world.client = UnreliableClient(clock=world.clock)
        self.history = History(world, "podFailurePolicy" in SPECS[kind])
        self._before = (0, 0)

    async def start(self) -> None:
        """A new process: nothing is remembered."""
        world = self.world
        world.activity = ActivityTracker()
        world.informers = SharedInformerFactory(
            self.client, world.clock, world.random, world.activity
        )
        world.env = Environment(
            self.client, world.informers, world.clock, world.random, world.activity
        )
        await world.run(JobController(world.env))

    async def stop(self) -> None:
        world = self.world
        while world.controllers:
            await world.controllers.pop().stop()
        await world.informers.stop()

    async def restart(self) -> None:
        await self.stop()
        self.client.catch_up()
        self.client.trouble, self.client.dead = "", asyncio.Event()
        await self.start()

    async def settle(self) -> None:
        """Until all is quiet or the controller is dead, which is then replaced."""
        quiet = asyncio.ensure_future(self.world.settle())
        dead = asyncio.ensure_future(self.client.dead.wait())
        await asyncio.wait((quiet, dead), return_when=asyncio.FIRST_COMPLETED)
        for waiter in (quiet, dead):
            waiter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiter
        if self.client.dead.is_set():
            await self.restart()

    async def step(self, action: str, number: int) -> None:
        client = self.client
        if action == "wait":
            await self.settle()
            client.trouble = ""
            await self.world.advance(30)
        elif action == "restart":
            await self.restart()
        elif action.startswith("late"):
            client.late.add(PODS if action == "late pods" else JOBS)
            client.patience = PATIENCE
        elif action in ("refuse", "lose", "crash"):
            client.countdown = number // 2 % 4 + 1
            client.trouble = ("die", "died")[number % 2] if action == "crash" else action
        else:
            self.history.end(number, action)
        if number % 2:
            await self.settle()
            if number % 3 == 0:
                client.catch_up()
                await self.settle()
            self._before = check(self.world, self.kind, self.history, self._before)

    async def finish(self) -> None:
        await self.settle()
        self.client.catch_up()
        self.client.trouble = ""
        await self.settle()
        await self.world.advance(2000)
        check(self.world, self.kind, self.history, self._before)
        check_end(self.world, self.history)


async def run(new_world: Any, kind: str, steps: list[tuple[str, int]]) -> None:
    one = Run(new_world, kind)
    try:
        await one.start()
        one.world.client.seed(job(**SPECS[kind]))
        await one.settle()
        for action, number in steps:
            await one.step(action, number)
        await one.finish()
    finally:
        await one.stop()


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
    if over & {"Complete", "Failed"}:
        assert not history.waiting()
    counted = status.get("succeeded", 0) + status.get("failed", 0)
    if "Failed" in over:  # what was stopped has failed, too
        assert counted + history.uncounted == len(world.client.created)
    reasons = {c["reason"] for c in status.get("conditions", ())}
    if "CompletionsReached" in reasons:
        assert counted == history.count("succeed") + history.failures
    ended = [p for p in world.client.objects(PODS)
             if p.get("status", {}).get("phase") in ("Succeeded", "Failed")]  # fmt: skip
    assert not any(pod["metadata"].get("finalizers") for pod in ended)


@given(st.sampled_from(sorted(SPECS)), STEPS)
@settings(max_examples=100)
def test_each_pod_counts_once(new_world, kind, steps):
    asyncio.run(run(new_world, kind, steps))
