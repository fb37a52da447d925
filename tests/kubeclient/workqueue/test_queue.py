"""The work queue's promises, by a model and by examples."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.workqueue import KeySets, WorkQueue
from pilothouse.kubeclient.workqueue.rate_limiters import (
    BucketRateLimiter,
    ItemExponentialFailureRateLimiter,
    MaxOfRateLimiter,
    TokenBucket,
)


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "done"]), st.integers(0, 3))))
def test_no_key_is_lost_or_processed_twice_at_once(steps):
    sets: KeySets[int] = KeySets()
    wanted: set[int] = set()
    working: set[int] = set()
    for verb, key in steps:
        if verb == "add":
            sets.add(key)
            wanted.add(key)
        elif verb == "take" and sets.queue:
            taken = sets.take()
            assert taken in wanted
            assert taken not in working
            wanted.discard(taken)
            working.add(taken)
        elif verb == "done" and key in working:
            working.discard(key)
            sets.done(key)
        assert len(set(sets.queue)) == len(sets.queue)
        assert set(sets.queue) == wanted - working
    for key in sorted(working):
        sets.done(key)
    drained = set()
    while sets.queue:
        key = sets.take()
        drained.add(key)
        sets.done(key)
    assert drained == wanted
    assert not sets.dirty and not sets.processing


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def activity():
    return ActivityTracker()


async def test_add_while_processing_comes_back_after_done(clock, activity):
    queue: WorkQueue[str] = WorkQueue("q", clock, activity)
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0 and not activity.busy()


async def test_waiting_getters_get_one_key_each(clock):
    queue: WorkQueue[str] = WorkQueue("q", clock)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.shut_down()
    assert sorted(str(w.result()) for w in workers) == ["None", "a", "b"]


async def test_cancelled_getter_hands_its_wake_up_on(clock):
    queue: WorkQueue[str] = WorkQueue("q", clock)
    first = asyncio.ensure_future(queue.get())
    second = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await second == "a"


async def test_delayed_keys_are_no_activity_and_the_earliest_counts(clock, activity):
    queue: WorkQueue[str] = WorkQueue("q", clock, activity)
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    assert not activity.busy() and queue.waiting == 1
    clock.advance(5)
    assert len(queue) == 1 and activity.busy() == ["q"]


async def test_shut_down_drops_delays_and_later_adds(clock, activity):
    queue: WorkQueue[str] = WorkQueue("q", clock, activity)
    queue.add("a")
    queue.add_after("b", 1)
    queue.shut_down()
    queue.add("c")
    assert await queue.get() == "a"
    queue.done("a")
    clock.advance(2)
    assert await queue.get() is None
    assert not activity.busy()


def test_failures_of_a_key_double_and_forget_resets():
    limiter: ItemExponentialFailureRateLimiter[str] = ItemExponentialFailureRateLimiter()
    assert [limiter.when("a") for _ in range(3)] == [0.005, 0.01, 0.02]
    assert limiter.num_requeues("a") == 3
    assert limiter.when("b") == 0.005
    limiter.forget("a")
    assert limiter.when("a") == 0.005
    for _ in range(70):
        last = limiter.when("c")
    assert last == 1000.0


def test_bucket_allows_its_burst_then_its_rate(clock):
    limiter: MaxOfRateLimiter[int] = MaxOfRateLimiter(
        BucketRateLimiter(TokenBucket(10, 100, clock))
    )
    assert all(limiter.when(i) == 0 for i in range(100))
    assert limiter.when(1) == pytest.approx(0.1)
    assert limiter.when(2) == pytest.approx(0.2)
