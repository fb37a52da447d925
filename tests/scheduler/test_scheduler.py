"""The whole scheduler against a fake client and clock: binding, failures, requeue, preemption."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from pilothouse.apimachinery.object import condition_of
from pilothouse.apimachinery.testing import FakeClock, make_node, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import EVENTS_V1, NODES, PODS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.scheduler.scheduler import Scheduler

UID = iter(range(10_000))


def node(name: str, cpu: str = "4", **spec: Any) -> dict[str, Any]:
    obj = make_node(name)
    obj["spec"] = spec
    obj["status"] = {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}
    return obj


def pod(name: str, cpu: str = "1", **spec: Any) -> dict[str, Any]:
    obj = make_pod(name)
    obj["metadata"]["uid"] = f"uid-{next(UID)}"
    obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    obj["spec"] |= spec
    return obj


class World:
    def __init__(self, *objects: dict[str, Any]) -> None:
        self.bind_errors: list[Exception] = []
        self.clock = FakeClock()
        self.client = FakeClient(*objects, clock=self.clock)
        self.client.react("create", "pods/binding", self._bind)
        self.activity = ActivityTracker()
        random = Random(1)
        informers = SharedInformerFactory(self.client, self.clock, random, self.activity)
        self.env = Environment(self.client, informers, self.clock, random, self.activity)
        self.scheduler = Scheduler(self.env)

    def _bind(self, action: Any) -> Any:
        """What the API server does with a Binding."""
        if self.bind_errors:
            raise self.bind_errors.pop()
        bound = self.client.current(PODS, action.name, action.namespace)
        assert bound is not None
        bound = bound | {"spec": bound["spec"] | {"nodeName": action.object["target"]["name"]}}
        self.client.seed(bound)
        return action.object

    def node_of(self, name: str) -> str:
        found = self.client.current(PODS, name, "default")
        assert found is not None
        return str(found["spec"].get("nodeName") or "")

    def events(self) -> list[tuple[str, str, str]]:
        """(type, reason, note) of the events.k8s.io events."""
        found = self.client.objects(EVENTS_V1)
        return [(e["type"], e["reason"], e["note"]) for e in found]

    async def settle(self) -> None:
        await self.activity.settle()


@asynccontextmanager
async def running(*objects: dict[str, Any]) -> AsyncIterator[World]:
    world = World(*objects)
    await world.scheduler.start()
    try:
        await world.settle()
        yield world
    finally:
        await world.scheduler.stop()
        await world.env.informers.stop()


async def test_binds_to_the_node_with_more_room() -> None:
    async with running(node("small", "2"), node("large", "16"), pod("a")) as world:
        assert world.node_of("a") == "large"
        assert world.events() == [
            ("Normal", "Scheduled", "Successfully assigned default/a to large")
        ]


async def test_assumed_pods_count_at_once() -> None:
    async with running(node("n", "2"), pod("a"), pod("b"), pod("c")) as world:
        assert sorted(world.node_of(p) for p in "abc") == ["", "n", "n"]


async def test_says_why_a_pod_does_not_fit() -> None:
    objects = (
        node("n1", "1"),
        node("n2", "1"),
        node("n3", "8", taints=[{"key": "k", "effect": "NoSchedule"}]),
        pod("a", "2"),
    )
    async with running(*objects) as world:
        message = (
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. "
            "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        )
        assert world.events() == [("Warning", "FailedScheduling", message)]
        found = world.client.current(PODS, "a", "default")
        assert found is not None
        condition = condition_of(found, "PodScheduled")
        assert condition is not None
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        assert condition["message"] == message


async def test_no_nodes_then_one_appears() -> None:
    async with running(pod("a")) as world:
        assert world.events()[0][2] == "no nodes available to schedule pods"
        await world.client.create(NODES, node("n"))
        await world.settle()
        assert world.node_of("a") == "n"  # nothing else to do: no back-off


async def test_uncordon_wakes_the_pod() -> None:
    async with running(node("n", unschedulable=True), pod("a")) as world:
        assert world.events()[0][2].startswith(
            "0/1 nodes are available: 1 node(s) were unschedulable."
        )
        world.clock.advance(5.0)
        assert world.node_of("a") == ""
        await world.client.patch(
            NODES, "n", {"spec": {"unschedulable": None}}, "application/merge-patch+json"
        )
        await world.settle()
        assert world.node_of("a") == "n"


async def test_failed_binding_gives_the_room_back_and_tries_again() -> None:
    world = World(node("n", "1"))
    world.bind_errors.append(ConnectionError("lost"))
    await world.scheduler.start()
    await world.client.create(PODS, pod("a"), "default")
    await world.settle()
    assert world.node_of("a") == ""
    world.clock.advance(1.0)
    await world.settle()
    assert world.node_of("a") == "n"
    await world.scheduler.stop()
    await world.env.informers.stop()


async def test_preempts_the_least_important_pod() -> None:
    low = pod("low", "2", priority=1, nodeName="n")
    middle = pod("middle", "2", priority=5, nodeName="n")
    async with running(node("n", "4"), low, middle, pod("high", "2", priority=10)) as world:
        assert world.client.current(PODS, "low", "default") is None
        assert world.client.current(PODS, "middle", "default") is not None
        assert ("Normal", "Preempted") in [e[:2] for e in world.events()]
        world.clock.advance(1.0)
        await world.settle()
        assert world.node_of("high") == "n"


async def test_a_more_important_pod_takes_a_nomination_over() -> None:
    low = pod("low", "4", priority=1, nodeName="n")
    low["metadata"]["finalizers"] = ["example.com/slow"]
    middle = pod("middle", "2", priority=5)
    async with running(node("n", "4"), low, middle) as world:

        def nominated(name: str) -> str | None:
            found = world.client.current(PODS, name, "default")
            assert found is not None
            node_name: str | None = found["status"].get("nominatedNodeName")
            return node_name

        assert nominated("middle") == "n"
        await world.client.create(PODS, pod("high", "4", priority=10), "default")
        await world.settle()
        assert (nominated("high"), nominated("middle")) == ("n", None)


async def test_never_preempting_pod_waits() -> None:
    low = pod("low", "4", priority=1, nodeName="n")
    high = pod("high", "2", priority=10, preemptionPolicy="Never")
    async with running(node("n", "4"), low, high) as world:
        assert world.client.current(PODS, "low", "default") is not None
        assert "preemption: not eligible due to preemptionPolicy=Never." in world.events()[0][2]


async def test_a_pod_that_has_become_smaller_makes_room() -> None:
    big = pod("big", "3", nodeName="n")
    has = {"name": big["spec"]["containers"][0]["name"], "resources": {"requests": {"cpu": "3"}}}
    big["status"] = {"phase": "Running", "containerStatuses": [has]}
    async with running(node("n", "4"), big, pod("a", "2")) as world:
        small = [big["spec"]["containers"][0] | {"resources": {"requests": {"cpu": "1"}}}]
        wanted = big | {"spec": big["spec"] | {"containers": small}}
        world.client.seed(wanted)
        await world.settle()
        assert world.node_of("a") == ""  # it has what it had until the kubelet says otherwise
        done = has | {"resources": {"requests": {"cpu": "1"}}}
        world.client.seed(wanted | {"status": {"phase": "Running", "containerStatuses": [done]}})
        await world.settle()
        world.clock.advance(10.0)
        await world.settle()
        assert world.node_of("a") == "n"
