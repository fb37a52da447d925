"""Events of events.k8s.io: what is written, and when a series starts."""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.testing import FakeClock, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.record_v1 import FINISH_SECONDS, REFRESH_SECONDS, SeriesRecorder
from pilothouse.kubeclient.resources import EVENTS_V1
from pilothouse.kubeclient.testing import FakeClient


class World:
    def __init__(self) -> None:
        self.clock, self.activity = FakeClock(), ActivityTracker()
        self.client = FakeClient(clock=self.clock)
        self.recorder = SeriesRecorder(
            self.client, "default-scheduler", clock=self.clock, activity=self.activity
        )

    async def tell(self, note: str = "no", pod: str = "p", related: Any = None) -> None:
        regarding = make_pod(pod)
        self.recorder.event(regarding, related, "Warning", "Failed", "Scheduling", note)
        await self.activity.settle()

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.client.objects(EVENTS_V1)


async def test_first_event() -> None:
    world = World()
    await world.tell(related=make_pod("other"))
    (event,) = world.events
    assert event["apiVersion"] == "events.k8s.io/v1"
    assert (event["action"], event["reason"], event["note"]) == ("Scheduling", "Failed", "no")
    assert event["reportingController"] == "default-scheduler" and event["reportingInstance"]
    assert event["regarding"]["name"] == "p" and event["related"]["name"] == "other"
    assert event["eventTime"] and "series" not in event
    await world.recorder.close()


async def test_the_second_starts_a_series_whatever_its_note() -> None:
    world = World()
    await world.tell("first")
    await world.tell("second")
    await world.tell("third")
    (event,) = world.events
    assert event["note"] == "first"
    assert event["series"]["count"] == 2, "the third is only counted"
    await world.recorder.close()


async def test_a_series_is_written_again_from_time_to_time() -> None:
    world = World()
    for _ in range(int(REFRESH_SECONDS / 300) + 2):
        await world.tell()
        world.clock.advance(300)
    (event,) = world.events
    assert event["series"]["count"] > 2
    await world.recorder.close()


async def test_after_a_silence_it_is_news() -> None:
    world = World()
    await world.tell()
    world.clock.advance(FINISH_SECONDS + 1)
    await world.tell()
    assert len(world.events) == 2
    await world.recorder.close()


async def test_others_are_others() -> None:
    world = World()
    await world.tell(pod="p")
    await world.tell(pod="q")
    assert {e["regarding"]["name"] for e in world.events} == {"p", "q"}
    await world.recorder.close()


async def test_an_expired_event_starts_anew() -> None:
    world = World()
    await world.tell()
    world.client.remove(EVENTS_V1, world.events[0]["metadata"]["name"], "default")
    await world.tell()
    (event,) = world.events
    assert event["series"]["count"] == 2
    await world.recorder.close()


async def test_nothing_is_written_after_the_end() -> None:
    world = World()
    await world.recorder.close()
    await world.tell()
    assert world.events == []
