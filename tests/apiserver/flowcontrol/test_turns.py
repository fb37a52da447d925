"""Shares of the loop's time: who has had least is next; nobody waits without need."""

from __future__ import annotations

import asyncio
from time import perf_counter

from pilothouse.apiserver.flowcontrol.queue_set import Flow
from pilothouse.apiserver.flowcontrol.turns import ALONE_AFTER, Turns


async def test_alone_nobody_waits() -> None:
    turns = Turns(budget=1e-9)
    flow = Flow(1)
    assert all(turns.may_run(flow, perf_counter()) for _ in range(100))


async def test_who_was_alone_shares_as_soon_as_another_comes() -> None:
    turns = Turns(budget=0.0)
    one, other = Flow(1), Flow(2)
    now = perf_counter()
    assert turns.may_run(one, now) and turns.may_run(one, now + 0.1)
    assert turns.may_run(other, now + 0.2), "it begins the turn"
    assert not turns.may_run(one, now + 0.2)
    assert turns.may_run(one, now + 0.2 + ALONE_AFTER), "alone again"


async def test_a_used_up_turn_makes_the_rest_wait_for_the_next() -> None:
    turns = Turns(budget=0.0)
    now = perf_counter()
    one, other = Flow(1), Flow(2)
    assert turns.may_run(one, now)
    assert turns.may_run(other, now)
    assert not turns.may_run(one, now + 0.5)
    await asyncio.wait_for(turns.wait(Flow(1)), 1)


async def test_flows_take_turns_whatever_their_number_of_requests() -> None:
    turns = Turns(budget=1e-9)
    order: list[str] = []

    async def request(name: str, flow: Flow) -> None:
        await turns.wait(flow)
        order.append(name)
        turns.charge(flow, 0.001, woken=True)

    flood, polite = Flow(1), Flow(2)
    flood.cost = polite.cost = 0.001
    tasks = [asyncio.create_task(request("flood", flood)) for _ in range(20)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(request("polite", polite)) for _ in range(3)]
    await asyncio.gather(*tasks)
    assert [i for i, name in enumerate(order) if name == "polite"][-1] < 8
    assert turns.waiting == 0


async def test_who_has_had_much_comes_later() -> None:
    turns = Turns(budget=1e-9)
    heavy, light = Flow(1), Flow(2)
    turns.charge(heavy, 0.01, woken=False)
    order: list[str] = []

    async def request(name: str, flow: Flow) -> None:
        await turns.wait(flow)
        order.append(name)

    await asyncio.gather(request("heavy", heavy), request("light", light))
    assert order == ["light", "heavy"]


async def test_weights() -> None:
    turns = Turns(budget=1e-9)
    double, single = Flow(1, weight=2.0), Flow(2)
    double.cost = single.cost = 0.001
    order: list[str] = []

    async def request(name: str, flow: Flow) -> None:
        await turns.wait(flow)
        order.append(name)
        turns.charge(flow, 0.001, woken=True)

    await asyncio.gather(
        *(request("double", double) for _ in range(20)),
        *(request("single", single) for _ in range(20)),
    )
    assert 18 <= order[:30].count("double") <= 20


async def test_a_client_that_goes_leaves_no_gap() -> None:
    turns = Turns(budget=1e-9)
    flow = Flow(1)
    gone = asyncio.create_task(turns.wait(flow))
    stays = asyncio.create_task(turns.wait(flow))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(stays, 1)
    assert turns.waiting == 0


async def test_who_has_had_less_than_those_that_wait_runs_at_once() -> None:
    turns = Turns(budget=0.001)
    flood, polite, heavy = Flow(1), Flow(2), Flow(3)
    turns.charge(flood, 0.01, woken=False)
    turns.charge(heavy, 0.02, woken=False)
    waiting = [asyncio.create_task(turns.wait(flood)) for _ in range(3)]
    await asyncio.sleep(0)
    assert turns.waiting == 3
    assert not turns.may_run(heavy, perf_counter()), "it has had more"
    assert not turns.may_run(flood, perf_counter()), "not before its own"
    ran = 0
    while turns.may_run(polite, perf_counter()):
        ran += 1
    assert 5 < ran < 30, "a budget's worth a turn"
    await asyncio.gather(*waiting)
