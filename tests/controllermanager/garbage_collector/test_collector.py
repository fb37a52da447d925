"""The garbage collector over the fake client, and what it must never do."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import (
    FakeClock,
    make_config_map,
    make_object,
    make_owner_reference,
)
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.controllermanager.garbage_collector.collector import GarbageCollector
from pilothouse.controllermanager.garbage_collector.graph import Facts, Graph, Identity
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import DeleteOptions, Environment
from pilothouse.kubeclient.resources import CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, NODES
from pilothouse.kubeclient.testing import FakeClient


def config_map(name, *owners, **options):
    obj = make_config_map(name, "a", uid=f"uid-{name}", **options)
    if owners:
        obj["metadata"]["ownerReferences"] = [make_owner_reference(o) for o in owners]
    return obj


@pytest.fixture
async def collector(world):
    await world.run(GarbageCollector(world.env))
    return world


def names(world):
    return {o["metadata"]["name"] for o in world.client.objects(CONFIG_MAPS)}


async def test_dependents_follow_their_owner_in_the_background(collector):
    owner = collector.client.seed(config_map("owner"))
    child = collector.client.seed(config_map("child", owner))
    collector.client.seed(config_map("grandchild", child))
    collector.client.seed(config_map("other"))
    await collector.settle()
    assert len(names(collector)) == 4
    await collector.client.delete(CONFIG_MAPS, "owner", "a")
    await collector.settle()
    assert names(collector) == {"other"}


async def test_a_second_live_owner_keeps_the_dependent(collector):
    one = collector.client.seed(config_map("one"))
    two = collector.client.seed(config_map("two"))
    collector.client.seed(config_map("child", one, two))
    await collector.settle()
    await collector.client.delete(CONFIG_MAPS, "one", "a")
    await collector.settle()
    assert names(collector) == {"two", "child"}
    child = collector.client.current(CONFIG_MAPS, "child", "a")
    assert [o["name"] for o in child["metadata"]["ownerReferences"]] == ["two"]


async def test_foreground_waits_for_blocking_dependents(collector):
    owner = collector.client.seed(config_map("owner"))
    held = config_map("child", owner)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    collector.client.seed(held)
    await collector.settle()
    await collector.client.delete(
        CONFIG_MAPS, "owner", "a", DeleteOptions(propagation_policy="Foreground")
    )
    await collector.settle()
    assert names(collector) == {"owner", "child"}
    assert collector.client.current(CONFIG_MAPS, "child", "a")["metadata"]["deletionTimestamp"]
    collector.client.remove(CONFIG_MAPS, "child", "a")
    await collector.settle()
    assert names(collector) == set()


async def test_orphan_frees_the_dependents(collector):
    owner = collector.client.seed(config_map("owner"))
    collector.client.seed(config_map("child", owner))
    await collector.settle()
    await collector.client.delete(
        CONFIG_MAPS, "owner", "a", DeleteOptions(propagation_policy="Orphan")
    )
    await collector.settle()
    assert names(collector) == {"child"}
    child = collector.client.current(CONFIG_MAPS, "child", "a")
    assert "ownerReferences" not in child["metadata"]


async def test_owner_that_never_was_is_verified_and_the_dependent_goes(world):
    ghost = config_map("ghost")
    world.client.seed(config_map("child", ghost))
    await world.run(GarbageCollector(world.env))
    assert names(world) == set()


async def test_owner_of_an_unknown_kind_keeps_the_dependent(collector):
    ghost = make_object("example.com/v1", "Widget", "w", "a", uid="w")
    collector.client.seed(config_map("child", ghost))
    await collector.settle()
    await collector.advance(60)
    assert names(collector) == {"child"}


async def test_owner_in_another_namespace_is_reported_and_counts_as_absent(collector):
    owner = config_map("owner")
    owner["metadata"]["namespace"] = "b"
    collector.client.seed(owner)
    collector.client.seed(config_map("child", owner))
    await collector.settle()
    assert names(collector) == {"owner"}
    assert (
        "Warning",
        "OwnerRefInvalidNamespace",
        "ownerRef [v1/ConfigMap, namespace: a, name: owner, uid: uid-owner] does not exist in "
        'namespace "a"',
    ) in collector.client.events()


async def test_namespaced_owner_of_a_cluster_scoped_object_is_left_alone(collector):
    owner = config_map("owner")
    node = make_object("v1", "Node", "n1", uid="n1")
    node["metadata"]["ownerReferences"] = [make_owner_reference(owner)]
    collector.client.seed(node)
    await collector.settle()
    await collector.advance(60)
    assert collector.client.current(NODES, "n1")


async def test_new_kinds_are_followed(collector):
    widgets = GroupVersionResource("example.com", "v1", "widgets")
    collector.client.add_kind(widgets, "Widget")
    collector.client.seed(
        make_object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com")
    )
    await collector.settle()
    widget = collector.client.seed(make_object("example.com/v1", "Widget", "w", "a", uid="w"))
    collector.client.seed(config_map("child", widget))
    await collector.settle()
    assert names(collector) == {"child"}
    await collector.client.delete(widgets, "w", "a")
    await collector.settle()
    assert names(collector) == set()
    assert collector.client.objects(CUSTOM_RESOURCE_DEFINITIONS)


async def test_events_are_not_followed(collector):
    ghost = config_map("ghost")
    event = make_object("v1", "Event", "e", "a", uid="e")
    event["metadata"]["ownerReferences"] = [make_owner_reference(ghost)]
    collector.client.seed(event)
    await collector.settle()
    assert collector.client.writes() == []


async def test_cycle_of_foreground_deletions_ends(collector):
    one, two = config_map("one"), config_map("two")
    one["metadata"]["ownerReferences"] = [make_owner_reference(two)]
    two["metadata"]["ownerReferences"] = [make_owner_reference(one)]
    collector.client.seed(one)
    collector.client.seed(two)
    await collector.settle()
    await collector.client.delete(
        CONFIG_MAPS, "one", "a", DeleteOptions(propagation_policy="Foreground")
    )
    await collector.settle()
    await collector.advance(5)
    assert names(collector) == set()


_UIDS = st.integers(0, 5)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), _UIDS, st.sets(_UIDS, max_size=2)),
        st.tuples(st.just("remove"), _UIDS, st.just(set())),
    ),
    max_size=30,
)


def _facts(number, owners):
    references = tuple(
        {"apiVersion": "v1", "kind": "ConfigMap", "name": f"c{o}", "uid": str(o)}
        for o in sorted(owners)
    )
    identity = Identity("v1", "ConfigMap", "a", f"c{number}", str(number))
    return Facts(identity, references, False, False, False)


@given(_STEPS)
def test_graph_edges_are_the_owner_references(steps):
    graph, live, gone = Graph(), {}, set()
    for what, number, owners in steps:
        if number in gone:
            continue  # a uid never comes back
        if what == "observe":
            graph.observe(_facts(number, owners))
            live[number] = owners
        elif number in live:
            graph.remove(_facts(number, set()).identity)
            del live[number]
            gone.add(number)
    for number, owners in live.items():
        node = graph.get(str(number))
        assert node is not None and node.observed
        for owner in owners:
            parent = graph.get(str(owner))
            if parent is not None and owner not in gone:
                assert str(number) in parent.dependents
        for dependent in node.dependents:
            assert number in live[int(dependent)]


_OBJECTS = st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=3), max_size=8)


@given(_OBJECTS, st.lists(st.integers(0, 7), max_size=4))
@settings(deadline=None, max_examples=40)
def test_nothing_with_a_live_owner_is_ever_deleted(objects, deleted):
    """Whatever the graph looks like: at each deletion that the collector asks for, none of the
    object's owners exists; and when all is quiet nothing dangles."""
    asyncio.run(_check_never_deletes(objects, deleted))


async def _check_never_deletes(objects, deleted):
    clock, activity = FakeClock(), ActivityTracker()
    client = FakeClient(clock=clock)
    informers = SharedInformerFactory(client, clock, Random(1), activity)
    collector = GarbageCollector(Environment(client, informers, clock, Random(1), activity))
    bodies = {n: config_map(f"c{n}") for n in range(8)}
    for number, owners in objects.items():
        # Acyclic: an object is only owned by those with a higher number.
        client.seed(config_map(f"c{number}", *(bodies[o] for o in sorted(owners) if o > number)))

    def check(action):
        victim = client.current(CONFIG_MAPS, action.name, "a")
        for owner in (victim or {}).get("metadata", {}).get("ownerReferences", ()):
            assert client.current(CONFIG_MAPS, owner["name"], "a") is None, action

    await collector.start()
    await activity.settle()
    client.react("delete", "configmaps", check)
    for number in deleted:
        if client.current(CONFIG_MAPS, f"c{number}", "a"):
            client.remove(CONFIG_MAPS, f"c{number}", "a")
            await activity.settle()
    for obj in client.objects(CONFIG_MAPS):
        owners = obj["metadata"].get("ownerReferences") or []
        assert not owners or any(client.current(CONFIG_MAPS, o["name"], "a") for o in owners)
    await collector.stop()
    await informers.stop()
