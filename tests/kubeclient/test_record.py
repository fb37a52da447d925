"""Events: names, aggregation, counting, the spam filter, retries."""

from __future__ import annotations

from random import Random

import pytest

from pilothouse.apimachinery.errors import new_too_many_requests
from pilothouse.apimachinery.testing import FakeClock, make_node, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubeclient.resources import EVENTS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.kubeclient.workqueue.rate_limiters import TokenBucket


class World:
    def __init__(self):
        self.clock = FakeClock()
        self.client = FakeClient(clock=self.clock)
        self.activity = ActivityTracker()
        self.recorder = EventRecorder(
            self.client, "kubelet", clock=self.clock, random=Random(1), activity=self.activity,
            host="n1",
        )  # fmt: skip

    async def record(self, message="m", pod="p", reason="R", **options):
        self.recorder.event(make_pod(pod, uid="u"), "Normal", reason, message, **options)
        await self.activity.settle()


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.recorder.close()


async def test_event_as_upstream_writes_it(world):
    await world.record("Started", field_path="spec.containers{c}")
    (event,) = world.client.objects(EVENTS)
    nanoseconds = int(event["metadata"]["name"].removeprefix("p."), 16)
    assert nanoseconds // 10**9 == int(world.clock.time())
    assert event["involvedObject"] == {
        "kind": "Pod", "namespace": "default", "name": "p", "uid": "u", "apiVersion": "v1",
        "fieldPath": "spec.containers{c}",
    }  # fmt: skip
    assert event["source"] == {"component": "kubelet", "host": "n1"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("kubelet", "n1")
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["count"] == 1


async def test_events_about_cluster_scoped_objects_are_in_default(world):
    world.recorder.event(make_node("n1"), "Normal", "R", "m")
    await world.activity.settle()
    (event,) = world.client.objects(EVENTS)
    assert event["metadata"]["namespace"] == "default"


async def test_the_same_again_counts_up(world):
    await world.record()
    world.clock.advance(5)
    await world.record()
    (event,) = world.client.objects(EVENTS)
    assert event["count"] == 2
    assert event["lastTimestamp"] == "2026-01-01T00:00:05Z"
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert [a.verb for a in world.client.actions] == ["create", "patch"]


async def test_an_expired_event_starts_anew(world):
    await world.record()
    world.client.remove(EVENTS, world.client.objects(EVENTS)[0]["metadata"]["name"], "default")
    await world.record()
    (event,) = world.client.objects(EVENTS)
    assert event["count"] == 2


async def test_ten_similar_become_one(world):
    for number in range(12):
        await world.record(f"message {number}")
    events = world.client.objects(EVENTS)
    assert len(events) == 10
    combined = [e for e in events if e["message"].startswith("(combined from similar events): ")]
    assert len(combined) == 1 and combined[0]["count"] == 3
    assert combined[0]["message"].endswith("message 11")


async def test_spam_is_dropped_and_comes_back_slowly(world):
    for _ in range(40):
        await world.record()
    assert len(world.client.objects(EVENTS)) == 1
    writes = len(world.client.actions)
    assert writes == 25
    await world.record(pod="other")
    assert len(world.client.actions) == 26
    world.clock.advance(300)
    await world.record()
    assert len(world.client.actions) == 27


async def test_caller_never_waits_and_a_busy_server_is_tried_again(world):
    answers = [new_too_many_requests("slow down", 1)]

    def refuse(action):
        if answers:
            raise answers.pop()

    world.client.react("create", "events", refuse)
    await world.record()
    assert world.client.objects(EVENTS) == []
    await world.clock.advance_through(10)
    await world.activity.settle()
    assert len(world.client.objects(EVENTS)) == 1


async def test_closing_leaves_no_activity(world):
    for number in range(5):
        world.recorder.event(make_pod("p"), "Normal", "R", str(number))
    await world.recorder.close()
    assert world.activity.busy() == []


def limited(world, qps, burst):
    return EventRecorder(
        world.client, "kubelet", clock=world.clock, random=Random(1), activity=world.activity,
        rate=TokenBucket(qps, burst, world.clock),
    )  # fmt: skip


async def test_events_beyond_the_rate_wait_and_are_no_activity(world):
    world.recorder = limited(world, 2, 3)
    for i in range(6):
        world.recorder.event(make_pod(f"p{i}", uid=f"u{i}"), "Normal", "Started", "started")
    await world.activity.settle()
    assert len(world.client.objects(EVENTS)) == 3
    world.clock.advance(0.5)
    await world.activity.settle()
    assert len(world.client.objects(EVENTS)) == 4
    world.clock.advance(1)
    await world.activity.settle()
    assert len(world.client.objects(EVENTS)) == 6


async def test_closing_ends_the_wait_for_the_rate(world):
    world.recorder = limited(world, 1, 1)
    for message in ("one", "two", "three"):
        world.recorder.event(make_pod("p", uid="u"), "Normal", "R", message)
    await world.activity.settle()
    await world.recorder.close()
    assert world.activity.busy() == []
    assert len(world.client.objects(EVENTS)) == 1
