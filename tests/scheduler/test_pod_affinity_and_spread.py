"""InterPodAffinity and PodTopologySpread: nodes in two zones, pods on them, upstream's reasons."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.testing import make_node, make_pod
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from pilothouse.scheduler.plugins.topology_spread import PodTopologySpread

ZONE, HOST = "zone", "kubernetes.io/hostname"
NAMESPACES = {"default": {"team": "blue"}, "other": {"team": "red"}}
UID = iter(range(10_000))
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
FAR = "node(s) didn't match pod affinity rules"
NEAR = "node(s) didn't match pod anti-affinity rules"
UNWANTED = "node(s) didn't satisfy existing pods anti-affinity rules"
SKEWED = "node(s) didn't match pod topology spread constraints"


def pod(app: str = "web", namespace: str = "default", **spec: Any) -> PodInfo:
    obj = make_pod(f"p{next(UID)}", namespace)
    obj["metadata"]["labels"] = {"app": app}
    obj["metadata"]["uid"] = obj["metadata"]["name"]
    obj["spec"] |= spec
    return PodInfo(obj)


def nodes(**zones: str) -> dict[str, NodeInfo]:
    """By name; a zone of '' is no label."""
    result = {}
    for name, zone in zones.items():
        obj = make_node(name)
        obj["metadata"]["labels"] = {HOST: name} | ({ZONE: zone} if zone else {})
        result[name] = NodeInfo(name)
        result[name].set_node(obj)
    return result


def term(app: str, key: str = ZONE, **more: Any) -> dict[str, Any]:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key, **more}


def near(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {"podAffinity": {REQUIRED: list(terms)}}}


def away(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {"podAntiAffinity": {REQUIRED: list(terms)}}}


def refusals(plugin: Any, p: PodInfo, on: dict[str, NodeInfo]) -> dict[str, str]:
    """Reason by node."""
    state = CycleState()
    status = plugin.pre_filter(state, p, list(on.values()))
    if isinstance(status, Status):
        assert status.code is Code.SKIP
        return {}
    found = {name: plugin.filter(state, p, node) for name, node in on.items()}
    return {name: status.message for name, status in found.items() if status is not None}


def scores(plugin: Any, p: PodInfo, on: dict[str, NodeInfo]) -> dict[str, int]:
    state = CycleState()
    assert plugin.pre_score(state, p, list(on.values())) is None
    values = [plugin.score(state, p, node) for node in on.values()]
    plugin.normalize(state, p, values)
    return dict(zip(on, values, strict=True))


@pytest.fixture
def affinity() -> InterPodAffinity:
    return InterPodAffinity(lambda name: NAMESPACES.get(name, {}))


def test_affinity_needs_a_pod_in_the_domain(affinity: InterPodAffinity) -> None:
    on = nodes(a="z1", b="z1", c="z2", d="")
    on["a"].add_pod(pod("db"))
    assert refusals(affinity, pod(**near(term("db"))), on) == {"c": FAR, "d": FAR}


def test_the_first_of_a_group_goes_anywhere_that_has_the_label(affinity: InterPodAffinity) -> None:
    on = nodes(a="z1", b="")
    assert refusals(affinity, pod("web", **near(term("web"))), on) == {"b": FAR}
    assert refusals(affinity, pod("web", **near(term("db"))), on) == {"a": FAR, "b": FAR}


def test_anti_affinity_works_both_ways(affinity: InterPodAffinity) -> None:
    on = nodes(a="z1", b="z1", c="z2")
    on["a"].add_pod(pod("db", **away(term("web"))))
    assert refusals(affinity, pod("web"), on) == {"a": UNWANTED, "b": UNWANTED}
    assert refusals(affinity, pod("cache"), on) == {}
    assert refusals(affinity, pod("x", **away(term("db", HOST))), on) == {"a": NEAR}


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, False),
        ({"namespaces": ["other"]}, True),
        ({"namespaceSelector": {}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "red"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "green"}}}, False),
    ],
)
def test_namespaces_of_a_term(
    affinity: InterPodAffinity, more: dict[str, Any], found: bool
) -> None:
    on = nodes(a="z1")
    on["a"].add_pod(pod("db", "other"))
    assert (refusals(affinity, pod(**near(term("db", **more))), on) == {}) is found


def test_preferences_of_the_pod_and_of_pods_that_run(affinity: InterPodAffinity) -> None:
    on = nodes(a="z1", b="z2", c="z3")
    on["a"].add_pod(pod("db"))
    wish = [{"weight": 10, "podAffinityTerm": term("db")}]
    close = {"affinity": {"podAffinity": {PREFERRED: wish}}}
    apart = {"affinity": {"podAntiAffinity": {PREFERRED: wish}}}
    assert scores(affinity, pod(**close), on) == {"a": 100, "b": 0, "c": 0}
    assert scores(affinity, pod(**apart), on) == {"a": 0, "b": 100, "c": 100}
    on["b"].add_pod(pod("shy", **apart))
    assert scores(affinity, pod("db"), on) == {"a": 100, "b": 0, "c": 100}


def test_what_if_a_pod_leaves(affinity: InterPodAffinity) -> None:
    on = nodes(a="z1")
    rival, p = pod("web"), pod("x", **away(term("web")))
    on["a"].add_pod(rival)
    state = CycleState()
    affinity.pre_filter(state, p, list(on.values()))
    what_if = state.copy()
    affinity.remove_pod(what_if, p, rival, on["a"])
    assert affinity.filter(what_if, p, on["a"]) is None
    assert affinity.filter(state, p, on["a"]) is not None


def test_only_pods_that_are_meant_wake_a_waiting_pod(affinity: InterPodAffinity) -> None:
    waiting = pod("x", **near(term("db")))
    changed = next(iter(affinity.events_to_register())).hint
    assert changed is not None
    assert changed(waiting, None, pod("db").obj)
    assert not changed(waiting, None, pod("web").obj)


def spread(key: str = ZONE, **more: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "web"}}
    base = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule"}
    return {"topologySpreadConstraints": [base | {"labelSelector": selector} | more]}


def three_nodes() -> dict[str, NodeInfo]:
    """Two web pods in z1, one in z2, and a node without a zone."""
    on = nodes(a="z1", b="z2", c="")
    for name in ("a", "a", "b"):
        on[name].add_pod(pod("web"))
    on["b"].add_pod(pod("web", "other"))
    on["b"].add_pod(pod("db"))
    return on


@pytest.mark.parametrize(
    ("more", "app", "refused"),
    [
        ({}, "web", {"a"}),
        ({}, "db", set()),
        ({"maxSkew": 2}, "web", set()),
        ({"minDomains": 3}, "web", {"a", "b"}),
        ({"matchLabelKeys": ["app"]}, "web", {"a"}),
    ],
)
def test_skew(more: dict[str, Any], app: str, refused: set[str]) -> None:
    found = refusals(PodTopologySpread(), pod(app, **spread(**more)), three_nodes())
    assert found.pop("c") == f"{SKEWED} (missing required label)"
    assert found == dict.fromkeys(refused, SKEWED)


def test_nodes_that_are_not_the_pods_business_do_not_count() -> None:
    on = nodes(a="z1", b="z2")
    on["a"].add_pod(pod("web"))
    only_a = {"nodeSelector": {HOST: "a"}}
    assert refusals(PodTopologySpread(), pod(**spread(), **only_a), on) == {}
    ignoring = spread(nodeAffinityPolicy="Ignore")
    assert "a" in refusals(PodTopologySpread(), pod(**ignoring, **only_a), on)
    assert on["b"].obj is not None
    on["b"].obj["spec"] = {"taints": [{"key": "k", "effect": "NoSchedule"}]}
    on["b"].set_node(on["b"].obj)
    assert "a" in refusals(PodTopologySpread(), pod(**spread()), on)
    honouring = spread(nodeTaintsPolicy="Honor")
    assert refusals(PodTopologySpread(), pod(**honouring), on) == {}


def test_fewer_pods_score_higher() -> None:
    wish = spread(whenUnsatisfiable="ScheduleAnyway")
    on = three_nodes() | nodes(d="z3")
    found = scores(PodTopologySpread(), pod(**wish), on)
    assert found["d"] == 100 > found["b"] > found["a"] == found["c"] == 0
    assert refusals(PodTopologySpread(), pod(**wish), on) == {}
