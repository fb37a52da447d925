"""What pods need of nodes, and what nodes say that they have."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.testing import make_node, make_pod
from pilothouse.apis.core.declared_features import (
    DECLARED,
    INIT_RESIZE,
    POD_LEVEL_RESIZE,
    RESTART_ALL,
    USER_NAMESPACES_HOST_NETWORK,
    VOLUME_RESIZE,
    missing,
    needed_for_scheduling,
    needed_for_update,
)
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, node_update_action
from pilothouse.scheduler.framework.interfaces import SKIP, CycleState
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.node_declared_features import NodeDeclaredFeatures


def declares(*features: str) -> Any:
    node = make_node("n")
    node["status"] = {"declaredFeatures": list(features)} if features else {}
    return node


RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]


def restarting() -> Any:
    pod = make_pod("p")
    pod["spec"]["initContainers"] = [{"name": "i", "restartPolicyRules": RULES}]
    return pod


def test_nodes_without_a_feature_are_left_out() -> None:
    plugin, pod = NodeDeclaredFeatures(), PodInfo(restarting())
    assert plugin.pre_filter(CycleState(), PodInfo(make_pod("q")), ()) is SKIP
    assert plugin.pre_filter(CycleState(), pod, ()) is None
    node = NodeInfo("n")
    node.set_node(declares("Another"))
    refused = plugin.filter(CycleState(), pod, node)
    assert refused is not None
    assert refused.message == "node(s) didn't match Pod's required features"
    node.set_node(declares(*DECLARED))
    assert plugin.filter(CycleState(), pod, node) is None


def test_a_feature_that_comes_later_wakes_pods() -> None:
    old, new = declares(), declares(RESTART_ALL)
    assert node_update_action(old, new) == Action.UPDATE_NODE_DECLARED_FEATURE
    (registration,) = NodeDeclaredFeatures().events_to_register()
    assert registration.hint is not None
    assert registration.hint(PodInfo(restarting()), old, new)
    assert not registration.hint(PodInfo(restarting()), new, new)


def test_what_pods_need() -> None:
    assert needed_for_scheduling(restarting()["spec"]) == {RESTART_ALL}
    spec = {"hostNetwork": True, "hostUsers": False, "containers": []}
    assert needed_for_scheduling(spec) == {USER_NAMESPACES_HOST_NETWORK}
    assert needed_for_scheduling(spec | {"hostUsers": True}) == frozenset()


def init(cpu: str, **more: Any) -> Any:
    return {"initContainers": [{"name": "i", "resources": {"requests": {"cpu": cpu}}, **more}]}


def volume(size: str) -> Any:
    return {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]}


@pytest.mark.parametrize(
    ("old", "new", "needed"),
    [
        ({}, {}, set()),
        ({}, {"resources": {"limits": {"cpu": "1"}}}, {POD_LEVEL_RESIZE}),
        (init("1"), init("2"), {INIT_RESIZE}),
        (init("1", restartPolicy="Always"), init("2", restartPolicy="Always"), set()),
        (volume("1Mi"), volume("2Mi"), {VOLUME_RESIZE}),
    ],
)
def test_what_changes_need(old: Any, new: Any, needed: set[str]) -> None:
    assert needed_for_update(old, new) == needed


def test_what_a_node_lacks() -> None:
    assert missing(frozenset(("b", "a")), declares("a")) == ["b"]
    assert missing(frozenset(("b", "a")), declares()) == ["a", "b"]
