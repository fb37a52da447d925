"""Each filter and score plugin by tables, with upstream's reasons."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.testing import make_node, make_pod
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.interfaces import Code, CycleState
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.balanced_allocation import BalancedAllocation
from pilothouse.scheduler.plugins.image_locality import ImageLocality
from pilothouse.scheduler.plugins.node_affinity import NodeAffinity
from pilothouse.scheduler.plugins.node_name import NodeName
from pilothouse.scheduler.plugins.node_ports import NodePorts
from pilothouse.scheduler.plugins.node_unschedulable import NodeUnschedulable
from pilothouse.scheduler.plugins.resources_fit import ResourcesFit
from pilothouse.scheduler.plugins.scheduling_gates import SchedulingGates
from pilothouse.scheduler.plugins.taint_toleration import TaintToleration

UID = iter(range(10_000))


def pod(spec: dict[str, Any] | None = None, requests: dict[str, str] | None = None) -> PodInfo:
    obj = make_pod(f"p{next(UID)}")
    obj["metadata"]["uid"] = obj["metadata"]["name"]
    obj["spec"] |= spec or {}
    if requests:
        obj["spec"]["containers"][0]["resources"] = {"requests": requests}
    return PodInfo(obj)


def node(
    name: str = "n",
    *,
    allocatable: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    images: dict[str, int] | None = None,
) -> NodeInfo:
    obj = make_node(name)
    obj["metadata"]["labels"] = labels or {}
    obj["spec"] = spec or {}
    obj["status"] = {
        "allocatable": allocatable or {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "images": [{"names": [n], "sizeBytes": s} for n, s in (images or {}).items()],
    }
    info = NodeInfo(name)
    info.set_node(obj)
    return info


def reasons(plugin: Any, p: PodInfo, n: NodeInfo) -> tuple[str, ...]:
    status = plugin.filter(CycleState(), p, n)
    return () if status is None else status.reasons


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ({"cpu": "1", "memory": "1Gi"}, ()),
        ({"cpu": "5"}, ("Insufficient cpu",)),
        ({"cpu": "3", "memory": "9Gi"}, ("Insufficient memory",)),
        ({"cpu": "3500m", "memory": "8Gi"}, ("Insufficient cpu", "Insufficient memory")),
        ({"example.com/gpu": "1"}, ("Insufficient example.com/gpu",)),
        ({"cpu": "0"}, ()),
    ],
)
def test_resources_fit(requests: dict[str, str], expected: tuple[str, ...]) -> None:
    n = node()
    n.add_pod(pod(requests={"cpu": "1", "memory": "1Gi"}))
    assert reasons(ResourcesFit(), pod(requests=requests), n) == expected


def test_resources_that_no_eviction_frees_are_unresolvable() -> None:
    status = ResourcesFit().filter(CycleState(), pod(requests={"cpu": "5"}), node())
    assert status is not None and status.code is Code.UNRESOLVABLE
    n = node()
    n.add_pod(pod(requests={"cpu": "4"}))
    status = ResourcesFit().filter(CycleState(), pod(requests={"cpu": "1"}), n)
    assert status is not None and status.code is Code.UNSCHEDULABLE


def test_too_many_pods() -> None:
    n = node(allocatable={"cpu": "4", "memory": "8Gi", "pods": "1"})
    n.add_pod(pod())
    assert reasons(ResourcesFit(), pod(), n) == ("Too many pods",)


def test_node_name() -> None:
    assert reasons(NodeName(), pod({"nodeName": "n"}), node("n")) == ()
    assert reasons(NodeName(), pod({"nodeName": "m"}), node("n")) == (
        "node(s) didn't match the requested node name",
    )


def test_node_unschedulable_and_its_toleration() -> None:
    n = node(spec={"unschedulable": True})
    assert reasons(NodeUnschedulable(), pod(), n) == ("node(s) were unschedulable",)
    tolerant = pod(
        {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}
    )
    assert reasons(NodeUnschedulable(), tolerant, n) == ()


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({}, False),
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Equal", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taint_toleration(toleration: dict[str, str], fits: bool) -> None:
    n = node(spec={"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]})
    p = pod({"tolerations": [toleration]} if toleration else {})
    expected = () if fits else ("node(s) had untolerated taint(s)",)
    assert reasons(TaintToleration(), p, n) == expected


def test_prefer_no_schedule_costs_score() -> None:
    plugin, state, p = TaintToleration(), CycleState(), pod()
    nodes = [node("a"), node("b", spec={"taints": [{"key": "k", "effect": "PreferNoSchedule"}]})]
    plugin.pre_score(state, p, nodes)
    scores = [plugin.score(state, p, n) for n in nodes]
    plugin.normalize(state, p, scores)
    assert scores == [100, 0]


@pytest.mark.parametrize(
    ("taken", "wanted", "fits"),
    [
        (("", 80), ("", 80), False),
        (("", 80), ("", 81), True),
        (("10.0.0.1", 80), ("10.0.0.2", 80), True),
        (("10.0.0.1", 80), ("0.0.0.0", 80), False),
    ],
)
def test_node_ports(taken: tuple[str, int], wanted: tuple[str, int], fits: bool) -> None:
    def with_port(ip: str, number: int) -> PodInfo:
        p = make_pod(f"p{next(UID)}")
        port: dict[str, Any] = {"hostPort": number, "containerPort": number}
        if ip:
            port["hostIP"] = ip
        p["spec"]["containers"][0]["ports"] = [port]
        return PodInfo(p)

    n = node()
    n.add_pod(with_port(*taken))
    expected = () if fits else ("node(s) didn't have free ports for the requested pod ports",)
    assert reasons(NodePorts(), with_port(*wanted), n) == expected


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    }


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"nodeSelector": {"zone": "a"}}, True),
        ({"nodeSelector": {"zone": "b"}}, False),
        (
            affinity({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}),
            True,
        ),
        (
            affinity({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}),
            False,
        ),
        (
            affinity({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["3"]}]}),
            True,
        ),
        (affinity({"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}), True),
        (affinity({}), False),
        (affinity({}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}), True),
        (
            affinity(
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
            ),
            True,
        ),
        (
            affinity(
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}
            ),
            False,
        ),
    ],
)
def test_node_affinity(spec: dict[str, Any], fits: bool) -> None:
    n = node(labels={"zone": "a", "size": "4"})
    expected = () if fits else ("node(s) didn't match Pod's node affinity/selector",)
    assert reasons(NodeAffinity(), pod(spec), n) == expected


def test_node_affinity_by_name_restricts_the_nodes() -> None:
    field = {"key": "metadata.name", "operator": "In", "values": ["n1", "n2"]}
    result = NodeAffinity().pre_filter(CycleState(), pod(affinity({"matchFields": [field]})), [])
    assert result == frozenset(("n1", "n2"))
    contradiction = affinity({"matchFields": [field, field | {"values": ["n3"]}]})
    status = NodeAffinity().pre_filter(CycleState(), pod(contradiction), [])
    assert status is not None and not isinstance(status, frozenset)
    assert status.reasons == ("pod affinity terms conflict",)


def test_scheduling_gates() -> None:
    status = SchedulingGates().pre_enqueue(pod({"schedulingGates": [{"name": "a"}, {"name": "b"}]}))
    assert status is not None and status.reasons == ("waiting for scheduling gates: [a b]",)
    assert SchedulingGates().pre_enqueue(pod()) is None


def test_least_allocated_and_balance() -> None:
    empty, used = node("empty"), node("used")
    used.add_pod(pod(requests={"cpu": "2", "memory": "1Gi"}))
    p = pod(requests={"cpu": "1", "memory": "2Gi"})
    fit, balance = ResourcesFit(), BalancedAllocation()
    assert fit.score(CycleState(), p, empty) == 75
    assert fit.score(CycleState(), p, used) == (25 + 62) // 2
    assert balance.score(CycleState(), p, empty) == 75
    assert balance.score(CycleState(), p, used) == 50 + (50 + 81 - 81) // 2


def test_image_locality_prefers_large_present_images() -> None:
    plugin, state = ImageLocality(), CycleState()
    nodes = [node("a", images={"big:latest": 800 * 1024 * 1024}), node("b")]
    p = pod()
    p.obj["spec"]["containers"][0]["image"] = "big"
    plugin.pre_score(state, p, nodes)
    assert plugin.score(state, p, nodes[0]) == 100 * (400 - 23) // (1000 - 23)
    assert plugin.score(state, p, nodes[1]) == 0
