"""What every namespace has, and how one goes away."""

from __future__ import annotations

from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.testing import make_config_map, make_object, make_pod
from pilothouse.controllermanager.namespace import NamespaceController, Remains, conditions
from pilothouse.controllermanager.root_ca import RootCAPublisher
from pilothouse.controllermanager.serviceaccount import ServiceAccountController
from pilothouse.kubeclient.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
)


def namespace(name="a"):
    return make_object("v1", "Namespace", name)


async def test_default_service_account_and_ca_come_and_come_back(world):
    await world.run(ServiceAccountController(world.env), RootCAPublisher(world.env, root_ca="PEM"))
    await world.client.create(NAMESPACES, namespace())
    await world.settle()
    assert world.client.current(SERVICE_ACCOUNTS, "default", "a")
    config_map = world.client.current(CONFIG_MAPS, "kube-root-ca.crt", "a")
    assert config_map["data"] == {"ca.crt": "PEM"}
    world.client.remove(SERVICE_ACCOUNTS, "default", "a")
    changed = copy_object(config_map)
    changed["data"] = {"ca.crt": "other"}
    await world.client.update(CONFIG_MAPS, changed)
    await world.settle()
    assert world.client.current(SERVICE_ACCOUNTS, "default", "a")
    assert world.client.current(CONFIG_MAPS, "kube-root-ca.crt", "a")["data"] == {"ca.crt": "PEM"}


async def test_nothing_is_made_in_a_terminating_namespace(world):
    await world.run(ServiceAccountController(world.env))
    world.client.seed(namespace() | {"status": {"phase": "Terminating"}})
    await world.settle()
    assert world.client.objects(SERVICE_ACCOUNTS) == []


async def test_deletion_empties_the_namespace_and_no_other(world):
    await world.run(NamespaceController(world.env))
    await world.client.create(NAMESPACES, namespace())
    world.client.seed(make_config_map("x", "a"))
    world.client.seed(make_config_map("x", "b"))
    world.client.seed(make_pod("p", "a"))
    await world.client.delete(NAMESPACES, "a")
    await world.settle()
    assert world.client.current(NAMESPACES, "a") is None
    assert [o["metadata"]["namespace"] for o in world.client.objects(CONFIG_MAPS)] == ["b"]
    verbs = [w for w in world.client.writes() if w[0] == "deletecollection"]
    assert verbs[0] == ("deletecollection", "pods", "")


async def test_pods_hold_back_the_rest_until_they_are_gone(world):
    world.client.graceful_pods = True
    await world.run(NamespaceController(world.env))
    await world.client.create(NAMESPACES, namespace())
    world.client.seed(make_config_map("x", "a"))
    world.client.seed(make_pod("p", "a", node="n", spec={"terminationGracePeriodSeconds": 30}))
    await world.client.delete(NAMESPACES, "a")
    await world.settle()
    assert world.client.current(CONFIG_MAPS, "x", "a")
    world.client.remove(PODS, "p", "a")
    await world.advance(20)
    assert world.client.current(NAMESPACES, "a") is None


async def test_finalizers_are_reported_and_waited_for(world):
    await world.run(NamespaceController(world.env))
    await world.client.create(NAMESPACES, namespace())
    held = make_config_map("x", "a")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    world.client.seed(held)
    await world.client.delete(NAMESPACES, "a")
    await world.settle()
    stuck = world.client.current(NAMESPACES, "a")
    remaining = condition_of(stuck, "NamespaceContentRemaining")
    assert remaining["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances"
    )
    finalizers = condition_of(stuck, "NamespaceFinalizersRemaining")
    assert finalizers["message"] == (
        "Some content in the namespace has finalizers remaining: "
        "example.com/hold in 1 resource instances"
    )
    assert condition_of(stuck, "NamespaceDeletionContentFailure")["status"] == "False"
    world.client.remove(CONFIG_MAPS, "x", "a")
    await world.advance(10)
    assert world.client.current(NAMESPACES, "a") is None


def test_conditions_keep_their_transition_time_while_the_status_stays():
    first = conditions([], Remains(errors=["b", "a"]), "t1")
    assert [c["type"] for c in first] == [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceContentRemaining",
        "NamespaceFinalizersRemaining",
    ]
    assert first[2]["message"] == "Failed to delete all resource types, 2 remaining: a, b"
    second = conditions(first, Remains(), "t2")
    assert [c["lastTransitionTime"] for c in second] == ["t1", "t1", "t2", "t1", "t1"]
