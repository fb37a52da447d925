"""The fake clock, in and out of an event loop, and the builders."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pilothouse.apimachinery.testing import (
    START,
    FakeClock,
    make_config_map,
    make_node,
    make_pod,
    make_service,
    make_workload,
)


def test_time_moves_only_by_hand() -> None:
    clock = FakeClock()
    before = clock.time()
    clock.advance(1.5)
    assert clock.now() == START + timedelta(seconds=1.5)
    assert clock.time() - before == 1.5
    assert clock.monotonic() == 1.5
    clock.set(START + timedelta(minutes=1))
    assert clock.monotonic() == 60


def test_timers_fire_in_order_at_their_deadlines() -> None:
    clock = FakeClock()
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, clock.monotonic()))
        if name == "b":
            clock.call_later(1, note, "nested")

    clock.call_later(3, note, "c")
    clock.call_later(1, note, "a")
    clock.call_later(1, note, "b")
    cancelled = clock.call_later(2, note, "x")
    cancelled.cancel()
    assert clock.pending == 3
    clock.advance(2.5)
    assert fired == [("a", 1), ("b", 1), ("nested", 2)]
    assert clock.next_deadline == 3
    clock.advance(0.5)
    assert fired[-1] == ("c", 3)
    assert clock.pending == 0


async def test_sleepers_wake_and_sleep_again() -> None:
    clock = FakeClock()
    woken: list[float] = []

    async def loop() -> None:
        for _ in range(3):
            await clock.sleep(10)
            woken.append(clock.monotonic())

    async with asyncio.TaskGroup() as group:
        group.create_task(loop())
        await clock.until_pending(1)
        await clock.advance_through(25)
        assert woken == [10, 20]
        await clock.advance_through(5)
    assert woken == [10, 20, 30]


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(clock.sleep(5))
        await clock.until_pending(1)
        task.cancel()
    assert clock.pending == 0
    await clock.sleep(0)


def test_builders() -> None:
    owner = make_workload("ReplicaSet", "web", uid="1")
    pod = make_pod("p", node="n", requests={"cpu": "1"}, owner=owner, ready=True, phase="Running")
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "1"
    assert pod["spec"]["nodeName"] == "n"
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1"}
    assert make_node("n", cpu="2")["status"]["allocatable"]["cpu"] == "2"
    assert make_service("s", cluster_ip="10.0.0.1")["spec"]["clusterIPs"] == ["10.0.0.1"]
    assert make_config_map(data={"a": "b"})["data"] == {"a": "b"}
    assert owner["spec"]["selector"]["matchLabels"] == {"app": "web"}
