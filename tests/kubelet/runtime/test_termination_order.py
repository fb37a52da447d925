"""Sidecars end after the main containers, the last one first; but nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from pilothouse.kubelet.runtime.termination_order import TerminationOrder

SPEC: dict[str, Any] = {
    "initContainers": [
        {"name": "s1", "restartPolicy": "Always"},
        {"name": "once"},
        {"name": "s2", "restartPolicy": "Always"},
    ],
    "containers": [{"name": "a"}, {"name": "b"}],
}


async def order_of_ends(*running: str) -> list[str]:
    order, ends = TerminationOrder(SPEC, running), list[str]()

    async def end(name: str) -> None:
        await order.turn(name, 60)
        ends.append(name)
        order.ended(name)

    await asyncio.gather(*(end(name) for name in running))
    return ends


async def test_sidecars_end_last_and_in_reverse() -> None:
    assert await order_of_ends("s1", "s2", "a", "b") == ["a", "b", "s2", "s1"]


async def test_only_what_runs_is_waited_for() -> None:
    assert await order_of_ends("s1", "b") == ["b", "s1"]
    assert await order_of_ends("s1") == ["s1"]


async def test_the_grace_period_ends_the_wait() -> None:
    order = TerminationOrder(SPEC, ["s1", "a"])
    await asyncio.wait_for(order.turn("s1", 0.001), 5)
    order.ended("unknown")
