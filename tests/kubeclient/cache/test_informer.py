"""Informers over the fake client: order, relist, resume, indices, activity."""

from __future__ import annotations

from random import Random

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.resources import CONFIG_MAPS, PODS
from pilothouse.kubeclient.testing import FakeClient


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(clock=self.clock)
        self.activity = ActivityTracker()
        self.factory = SharedInformerFactory(self.client, self.clock, Random(1), self.activity)
        self.seen: list[tuple[str, ...]] = []

    def follow(self, **options):
        informer = self.factory.informer(CONFIG_MAPS, **options)
        informer.add_handler(
            lambda o: self.seen.append(("add", o["metadata"]["name"])),
            lambda a, b: self.seen.append(("update", b["metadata"]["name"])),
            lambda o: self.seen.append(("delete", o["metadata"]["name"])),
        )
        self.factory.start()
        return informer


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.factory.stop()


def config_map(name, namespace="a", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


@pytest.mark.parametrize("watch_list", [True, False])
async def test_initial_objects_then_changes_in_order(world, watch_list):
    world.client.watch_list_supported = watch_list
    world.client.seed(config_map("one"))
    informer = world.follow()
    assert not informer.has_synced
    await informer.wait_synced()
    assert world.seen == [("add", "one")]
    await world.client.create(CONFIG_MAPS, config_map("two"), "a")
    await world.client.update(CONFIG_MAPS, config_map("two", x="y"))
    await world.client.delete(CONFIG_MAPS, "one", "a")
    await world.activity.settle()
    assert world.seen[1:] == [("add", "two"), ("update", "two"), ("delete", "one")]
    assert [o["metadata"]["name"] for o in informer.list()] == ["two"]


async def test_undelivered_events_are_activity(world):
    informer = world.follow()
    await informer.wait_synced()
    await world.activity.settle()
    world.client.seed(config_map("one"))
    assert world.activity.busy()
    await world.activity.settle()
    assert informer.get("a/one") is not None


async def test_expired_watch_relists_and_announces_only_differences(world):
    world.client.seed(config_map("stays"))
    world.client.seed(config_map("goes"))
    informer = world.follow()
    await informer.wait_synced()
    from pilothouse.apimachinery.errors import new_resource_expired

    world.seen.clear()
    world.client.end_watches(new_resource_expired("too old resource version"))
    world.client.remove(CONFIG_MAPS, "goes", "a")
    world.client.seed(config_map("new"))
    world.client.compact()
    await world.activity.settle()
    assert sorted(world.seen) == [("add", "new"), ("delete", "goes")]


async def test_lost_connection_resumes_at_the_last_version_after_a_back_off(world):
    informer = world.follow()
    await informer.wait_synced()
    await world.activity.settle()
    world.client.end_watches(ConnectionError("gone"))
    await world.activity.settle()
    world.client.seed(config_map("one"))
    await world.activity.settle()
    assert world.seen == []
    world.clock.advance(2)
    await world.activity.settle()
    assert world.seen == [("add", "one")]


async def test_back_off_doubles_up_to_its_cap(world):
    from pilothouse.apimachinery.errors import new_service_unavailable

    def refuse(*args, **options):
        raise new_service_unavailable("no")

    waits: list[float] = []
    sleep = world.clock.sleep

    async def note(seconds):
        waits.append(seconds)
        await sleep(seconds)

    world.client.watch = refuse
    world.client.list = refuse
    world.clock.sleep = note
    world.follow()
    for _ in range(8):
        await world.activity.settle()
        world.clock.advance(30)
    assert 0.8 <= waits[0] <= 1.6
    assert 1.6 <= waits[1] <= 3.2
    assert waits[-1] == 30.0


async def test_bookmark_moves_the_position(world):
    informer = world.follow()
    await informer.wait_synced()
    await world.client.create(PODS, {"metadata": {"name": "p"}, "spec": {}}, "a")
    world.client.bookmark()
    await world.activity.settle()
    assert informer.reflector.resource_version == str(world.client._revision)
    assert world.seen == []


async def test_late_handler_hears_of_present_objects_and_can_be_removed(world):
    world.client.seed(config_map("one"))
    informer = world.follow()
    await informer.wait_synced()
    late: list[str] = []
    registration = informer.add_handler(lambda o: late.append(o["metadata"]["name"]))
    assert late == ["one"]
    registration.remove()
    world.client.seed(config_map("two"))
    await world.activity.settle()
    assert late == ["one"]


async def test_failing_handler_does_not_stop_the_others(world, caplog):
    informer = world.factory.informer(CONFIG_MAPS)
    informer.add_handler(lambda o: 1 / 0)
    world.follow()
    world.client.seed(config_map("one"))
    await world.activity.settle()
    assert world.seen == [("add", "one")]
    assert "ZeroDivisionError" in caplog.text


async def test_selection_is_followed(world):
    informer = world.follow(namespace="a", label_selector="app=x")
    await informer.wait_synced()
    obj = config_map("one")
    obj["metadata"]["labels"] = {"app": "x"}
    world.client.seed(obj)
    world.client.seed(config_map("other"))
    world.client.seed({**obj, "metadata": {**obj["metadata"], "namespace": "b"}})
    await world.activity.settle()
    assert world.seen == [("add", "one")]
    world.client.seed(config_map("one"))
    await world.activity.settle()
    assert world.seen == [("add", "one"), ("delete", "one")]
