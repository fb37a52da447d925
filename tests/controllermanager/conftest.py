"""A cluster without a server for controllers: fake client, fake clock, a pretend kubelet."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import PODS
from pilothouse.kubeclient.testing import FakeClient


class World:
    """What a controller is given, and what a test does to it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(clock=self.clock)
        self.activity = ActivityTracker()
        self.random = Random(3)
        self.informers = SharedInformerFactory(self.client, self.clock, self.random, self.activity)
        self.env = Environment(self.client, self.informers, self.clock, self.random, self.activity)
        self.controllers: list[Any] = []

    async def run(self, *controllers: Any) -> None:
        for controller in controllers:
            self.controllers.append(controller)
            await controller.start()
        await self.settle()

    async def settle(self) -> None:
        await self.activity.settle()

    async def advance(self, seconds: float) -> None:
        """Moves the clock and lets everything that falls due finish."""
        await self.clock.advance_through(seconds)
        await self.settle()

    async def stop(self) -> None:
        for controller in reversed(self.controllers):
            await controller.stop()
        await self.informers.stop()

    def set_pod(self, pod: dict[str, Any], *, phase: str = "Running", ready: bool = True) -> None:
        """What a kubelet would report."""
        pod = copy_object(pod)
        now = format_time(self.clock.now())
        pod["spec"].setdefault("nodeName", "node")
        pod["status"] = {
            "phase": phase,
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": now,
                }
            ],
        }
        self.client.seed(pod)

    async def run_pods(self) -> int:
        """Makes every pod that is not so yet running and ready; how many were."""
        waiting = [p for p in self.client.objects(PODS) if not p.get("status", {}).get("phase")]
        for pod in waiting:
            self.set_pod(pod)
        await self.settle()
        return len(waiting)


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.stop()


@pytest.fixture(scope="session")
def new_world():
    """Makes a World; for property tests, which need one for each example. Stop it yourself."""
    return World
