"""Seats and queues: fairness among flows, limits, rejection; dealing of hands."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.flowcontrol.queue_set import Flow, QueueSet, Queuing, Seat
from pilothouse.apiserver.flowcontrol.shuffle_sharding import deal, flow_hash

QUEUING = Queuing(128, 6, 50)


def flow(name: str) -> Flow:
    return Flow(flow_hash("schema", name))


@given(st.integers(0, 2**64 - 1), st.integers(1, 128), st.data())
def test_hands_have_no_card_twice(value: int, deck: int, data: st.DataObject) -> None:
    hand = data.draw(st.integers(1, min(deck, 8)))
    cards = deal(value, deck, hand)
    assert len(set(cards)) == hand and all(0 <= card < deck for card in cards)
    assert cards == deal(value, deck, hand)


def test_hands_are_spread() -> None:
    random = Random(1)
    seen = Counter(card for _ in range(3000) for card in deal(random.getrandbits(64), 64, 6))
    assert len(seen) == 64 and max(seen.values()) < 2 * min(seen.values())


def test_wrong_hands() -> None:
    with pytest.raises(ValueError, match="entropy"):
        deal(1, 100_000, 6)
    with pytest.raises(ValueError, match="deckSize"):
        deal(1, 3, 4)


def test_free_seats_cost_no_queue() -> None:
    queues = QueueSet(QUEUING, 3, 0.0)
    seats = [queues.start(flow("a"), 1, 0.0) for _ in range(3)]
    assert all(s is not None and s.executing and s.queue is None for s in seats)
    assert queues.seats_in_use == 3


def test_without_queues_the_rest_is_rejected() -> None:
    queues = QueueSet(None, 2, 0.0)
    assert queues.start(flow("a"), 2, 0.0) is not None
    assert queues.start(flow("b"), 1, 0.0) is None
    assert QueueSet(None, 2, 0.0).start(flow("a"), 9, 0.0) is not None, "alone it may be too big"


def fill(queues: QueueSet, who: Flow, count: int) -> list[Seat]:
    found = [queues.start(who, 1, 0.0) for _ in range(count)]
    return [seat for seat in found if seat is not None]


def test_a_full_queue_rejects() -> None:
    queues = QueueSet(Queuing(1, 1, 5), 2, 0.0)
    a = flow("a")
    assert len(fill(queues, a, 10)) == 7
    assert queues.waiting == 5


def test_a_flow_with_nothing_running_does_not_wait() -> None:
    queues = QueueSet(QUEUING, 4, 0.0)
    fill(queues, flow("flood"), 100)
    polite = flow("polite")
    first = queues.start(polite, 1, 0.0)
    assert first is not None and first.executing
    second = queues.start(polite, 1, 0.0)
    assert second is not None and not second.executing
    queues.finish(first, 0.001)
    assert second.executing


def test_seats_are_shared_by_flows_not_by_requests() -> None:
    """One flow with ten times the requests gets no more of the seats."""
    queues = QueueSet(QUEUING, 6, 0.0)
    flows = {"flood": flow("flood"), "polite": flow("polite")}
    served: Counter[str] = Counter()
    running: list[tuple[str, Seat]] = []
    waiting: list[tuple[str, Seat]] = []
    now = 0.0
    for _ in range(400):
        now += 0.003
        for name, seat in running:
            queues.finish(seat, now)
            served[name] += 1
        running = []
        for name, backlog in (("flood", 100), ("polite", 10)):
            have = sum(1 for n, _ in waiting if n == name)
            for _ in range(backlog - have):
                claimed = queues.start(flows[name], 1, now)
                if claimed is not None:
                    waiting.append((name, claimed))
        running = [pair for pair in waiting if pair[1].executing]
        waiting = [pair for pair in waiting if not pair[1].executing]
    # The flood's hand has six queues, the other's ten requests are spread over six, too.
    assert served["polite"] > 0.4 * served["flood"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans()), max_size=80))
def test_nothing_is_lost(steps: list[tuple[str, int, bool]]) -> None:
    queues = QueueSet(Queuing(8, 2, 5), 5, 0.0)
    flows = {name: flow(name) for name in "abc"}
    live: list[Seat] = []
    now = 0.0
    for name, seats, finish in steps:
        now += 0.001
        if finish and live:
            seat = live.pop(0)
            if seat.executing:
                queues.finish(seat, now)
            else:
                queues.cancel(seat, now)
        else:
            claimed = queues.start(flows[name], seats, now)
            if claimed is not None:
                live.append(claimed)
        executing = [s for s in live if s.executing]
        assert queues.executing == len(executing)
        assert queues.seats_in_use == sum(s.seats for s in executing)
        assert queues.waiting == len(live) - len(executing)
        assert not queues.waiting or queues.executing, "seats are free and somebody waits"
    for seat in sorted(live, key=lambda s: not s.executing):
        now += 0.001
        (queues.finish if seat.executing else queues.cancel)(seat, now)
    assert (queues.seats_in_use, queues.waiting, queues._active) == (0, 0, 0)
