"""Waiting for the exit of a container."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.fake import FakeRuntime
from pilothouse.kubelet.runtime.interfaces import ContainerConfig, PodSandboxConfig, RuntimeEvent


class Setup:
    def __init__(self) -> None:
        self.runtime = FakeRuntime(FakeClock(), Random(1))
        self.cache = PodCache(self.runtime)
        self.sandbox = self.container = ""

    async def start(self) -> None:
        config = PodSandboxConfig("p", "default", "u", 0, "p", "/none")
        self.sandbox = await self.runtime.run_pod_sandbox(config)
        image = await self.runtime.pull_image("busybox", None)
        self.container = await self.runtime.create_container(
            self.sandbox, ContainerConfig("c", 0, image)
        )
        await self.runtime.start_container(self.container)
        await self.cache.relist()


@pytest.fixture
async def setup() -> Setup:
    made = Setup()
    await made.start()
    return made


async def test_an_event_tells(setup: Setup) -> None:
    first = asyncio.ensure_future(setup.cache.wait_exited(setup.container))
    second = setup.cache.exit_future(setup.container)
    await asyncio.sleep(0)
    setup.runtime.finish_container(setup.container, 0)
    assert not first.done() and not second.done()
    event = RuntimeEvent(setup.sandbox, "u", setup.container, "stopped")
    assert await setup.cache.on_event(event)
    await first
    await second


@pytest.mark.parametrize("how", ["relist", "gone", "forget", "exited in relist"])
async def test_every_way_of_going(setup: Setup, how: str) -> None:
    waiting = setup.cache.exit_future(setup.container)
    if how == "exited in relist":
        setup.runtime.finish_container(setup.container, 1)
    else:
        await setup.runtime.remove_pod_sandbox(setup.sandbox)
    if how == "gone":
        await setup.cache.refresh_container("u", setup.container)
    elif how == "forget":
        setup.cache.forget("u")
    else:
        await setup.cache.relist()
    assert waiting.done()
    assert setup.cache._exits == {}


async def test_what_has_ended_is_not_waited_for(setup: Setup) -> None:
    await setup.cache.wait_exited("unknown")
    setup.runtime.finish_container(setup.container, 0)
    await setup.cache.relist()
    await setup.cache.wait_exited(setup.container)


async def test_giving_up_leaves_nothing(setup: Setup) -> None:
    futures = [setup.cache.exit_future(setup.container) for _ in range(2)]
    futures[0].cancel()
    await asyncio.sleep(0)
    setup.runtime.finish_container(setup.container, 0)
    await setup.cache.relist()
    assert futures[1].done() and not futures[1].cancelled()
    assert setup.cache._exits == {}
