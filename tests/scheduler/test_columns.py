"""The columns' answers are those of asking every plugin about every node (property test)."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.testing import FakeClock, make_node, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.scheduler.config import SchedulerConfig
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.frameworks import make_framework
from pilothouse.scheduler.profile import Profile
from pilothouse.scheduler.queueing.nominator import Nominator
from pilothouse.scheduler.schedule_one import Decision, SchedulingAlgorithm
from pilothouse.scheduler.scheduler import Scheduler

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
COLORS = ("red", "green")
IMAGES = ("pause:1", "web:2")


class World:
    """A scheduler's cache, and two algorithms with the same plugins: one is given the cache's
    list, the other a plain one."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        clock, activity = FakeClock(), ActivityTracker()
        client = FakeClient(clock=clock)
        informers = SharedInformerFactory(client, clock, random, activity)
        env = Environment(client, informers, clock, random, activity)
        self.scheduler = Scheduler(env, SchedulerConfig())
        self.cache = self.scheduler.cache
        self.nominator = Nominator()
        framework = self.scheduler.frameworks["default-scheduler"]
        self.quick = SchedulingAlgorithm(framework, Random(seed), self.nominator)
        handle = Handle(
            client, informers, clock, random, activity,
            lambda: list(self.cache.nodes()), lambda name: {},
        )  # fmt: skip
        plain = make_framework(Profile(), handle)
        self.naive = SchedulingAlgorithm(plain, Random(seed), self.nominator)
        self.placed: list[PodInfo] = []
        self.serial = itertools.count()

    def decide(self, pod: PodInfo) -> Decision:
        """:raises AssertionError: the two do not agree."""
        quick = self.quick.schedule(pod, self.cache.nodes())
        naive = self.naive.schedule(pod, list(self.cache.nodes()))
        assert quick.node == naive.node
        assert quick.feasible == naive.feasible
        assert ahead(quick.totals) == ahead(naive.totals)
        if not naive.node:
            assert quick.diagnosis == naive.diagnosis
        assert self.quick._next_start == self.naive._next_start
        return quick


def ahead(totals: list[int]) -> list[int]:
    """How much more than the worst node each has."""
    return [total - min(totals) for total in totals]


def node(draw: Any, name: str) -> dict[str, Any]:
    obj = make_node(name)
    labels = {HOST: name}
    zone = draw(st.sampled_from(("a", "b", "c", "")))
    if zone:
        labels[ZONE] = zone
    if draw(st.integers(0, 4)) == 0:
        labels["disk"] = "ssd"
    obj["metadata"]["labels"] = labels
    taint = draw(st.sampled_from(("", "", "", "NoSchedule", "PreferNoSchedule")))
    obj["spec"] = {"taints": [{"key": "k", "effect": taint}]} if taint else {}
    if draw(st.integers(0, 9)) == 0:
        obj["spec"]["unschedulable"] = True
    size = draw(st.sampled_from(("1", "2", "4")))
    obj["status"] = {"allocatable": {"cpu": size, "memory": f"{size}Gi", "pods": "6"}}
    if draw(st.integers(0, 3)) == 0:
        image = {"names": [draw(st.sampled_from(IMAGES))], "sizeBytes": 400 * 1024 * 1024}
        obj["status"]["images"] = [image]
    return obj


def term(draw: Any) -> dict[str, Any]:
    found = {
        "labelSelector": {"matchLabels": {"color": draw(st.sampled_from(COLORS))}},
        "topologyKey": draw(st.sampled_from((ZONE, HOST))),
    }
    if draw(st.integers(0, 3)) == 0:
        found["namespaceSelector"] = {}
    return found


def spec_of(draw: Any) -> dict[str, Any]:
    """A template: labels and spec."""
    spec: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 2))):
        what = draw(
            st.sampled_from(("affinity", "anti", "prefer", "spread", "node", "port", "tol"))
        )
        affinity = spec.setdefault("affinity", {})
        if what == "affinity":
            affinity["podAffinity"] = {REQUIRED: [term(draw)]}
        elif what == "anti":
            affinity["podAntiAffinity"] = {REQUIRED: [term(draw)]}
        elif what == "prefer":
            weighted = {"weight": draw(st.integers(1, 9)), "podAffinityTerm": term(draw)}
            side = draw(st.sampled_from(("podAffinity", "podAntiAffinity")))
            affinity.setdefault(side, {})[PREFERRED] = [weighted]
        elif what == "spread":
            spec["topologySpreadConstraints"] = [
                spread(draw) for _ in range(draw(st.integers(1, 2)))
            ]
        elif what == "node":
            chosen = {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
            if draw(st.booleans()):
                affinity["nodeAffinity"] = {PREFERRED: [{"weight": 5, "preference": chosen}]}
            else:
                affinity["nodeAffinity"] = {REQUIRED: {"nodeSelectorTerms": [chosen]}}
        elif what == "port":
            spec["hostNetwork"] = True
        else:
            spec["tolerations"] = [{"key": "k", "operator": "Exists"}]
    return spec


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def spread(draw: Any) -> dict[str, Any]:
    return {
        "maxSkew": draw(st.integers(1, 2)),
        "topologyKey": draw(st.sampled_from((ZONE, HOST))),
        "whenUnsatisfiable": draw(st.sampled_from(("DoNotSchedule", "ScheduleAnyway"))),
        "labelSelector": {"matchLabels": {"color": draw(st.sampled_from(COLORS))}},
        "nodeTaintsPolicy": draw(st.sampled_from(("Honor", "Ignore"))),
    }


def pod(
    world: World, template: dict[str, Any], color: str, cpu: str, priority: int = 0
) -> dict[str, Any]:
    serial = next(world.serial)
    obj = make_pod(f"p{serial}")
    obj["metadata"] |= {"uid": f"u{serial}", "labels": {"color": color}}
    obj["spec"] |= template | {"priority": priority}
    container = {"image": IMAGES[0], "resources": {"requests": {"cpu": cpu, "memory": "200Mi"}}}
    if template.get("hostNetwork"):
        container["ports"] = [{"containerPort": 80, "hostPort": 80}]
    obj["spec"]["containers"][0] |= container
    return obj


def change(world: World, draw: Any, names: Any) -> None:
    """What informers may bring between two cycles."""
    what = draw(
        st.sampled_from(("none", "node", "gone", "ended", "moved", "nominated", "confirmed"))
    )
    nodes, placed = world.cache.nodes(), world.placed
    if what == "node":
        known = [n.name for n in nodes]
        world.cache.set_node(node(draw, draw(st.sampled_from([*known, f"n{next(names)}"]))))
    elif what == "gone" and len(nodes) > 1:
        world.cache.remove_node(draw(st.sampled_from([n.name for n in nodes])))
    elif what == "ended" and placed:
        ended = placed.pop(draw(st.integers(0, len(placed) - 1)))
        world.cache.remove_pod(ended.uid)
    elif what in ("moved", "confirmed") and placed:
        at = draw(st.integers(0, len(placed) - 1))
        old = placed[at].obj
        labels = {"color": draw(st.sampled_from(COLORS))} if what == "moved" else None
        metadata = old["metadata"] | ({"labels": labels} if labels else {})
        placed[at] = PodInfo(old | {"metadata": metadata})
        world.cache.add_pod(placed[at])
    elif what == "nominated" and nodes:
        info = PodInfo(pod(world, {}, "red", "1", priority=draw(st.integers(0, 2))))
        world.nominator.set(info, draw(st.sampled_from([n.name for n in nodes])))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_columns_answer_as_a_naive_pass_does(data: st.DataObject) -> None:
    draw = data.draw
    world = World(draw(st.integers(0, 9)))
    names = itertools.count()
    for _ in range(draw(st.integers(1, 8))):
        world.cache.set_node(node(draw, f"n{next(names)}"))
    templates = [
        (spec_of(draw), draw(st.sampled_from(COLORS)), draw(st.sampled_from(("100m", "900m"))))
        for _ in range(draw(st.integers(1, 3)))
    ]
    for _ in range(draw(st.integers(1, 20))):
        change(world, draw, names)
        template, color, cpu = draw(st.sampled_from(templates))
        obj = pod(world, template, color, cpu, priority=draw(st.sampled_from((0, 0, 1))))
        info = PodInfo(obj)
        decision = world.decide(info)
        if decision.node:
            world.cache.assume(info, decision.node)
            bound = obj | {"spec": obj["spec"] | {"nodeName": decision.node}}
            world.placed.append(PodInfo(bound))
            if draw(st.booleans()):
                world.cache.add_pod(world.placed[-1])


def test_large_clusters_look_at_a_share_of_the_nodes() -> None:
    world = World(1)
    for n in range(300):
        obj = make_node(f"n{n}")
        obj["metadata"]["labels"] = {HOST: f"n{n}", ZONE: "abc"[n % 3]}
        size = str(1 + n % 3)
        obj["status"] = {"allocatable": {"cpu": size, "memory": f"{size}Gi", "pods": "4"}}
        world.cache.set_node(obj)
    constraint = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    spreading = {"topologySpreadConstraints": [constraint | {"labelSelector": {"matchLabels": {}}}]}
    for n in range(200):
        info = PodInfo(pod(world, spreading if n % 2 else {}, "red", "300m"))
        decision = world.decide(info)
        assert 48 <= len(decision.feasible) <= 144  # (50 - 300 // 125) %
        world.cache.assume(info, decision.node)


def test_only_changed_nodes_are_asked_about_again() -> None:
    world = World(1)
    for n in range(50):
        obj = make_node(f"n{n}")
        obj["status"] = {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "9"}}
        world.cache.set_node(obj)
    asked: list[str] = []
    framework = world.scheduler.frameworks["default-scheduler"]
    fit = next(p for p in framework.filters if p.name == "NodeResourcesFit")  # type: ignore[attr-defined]
    ask = fit.filter
    fit.filter = lambda state, pod, node: asked.append(node.name) or ask(state, pod, node)  # type: ignore[func-returns-value, method-assign]
    first, second = (PodInfo(pod(world, {}, "red", "1")) for _ in range(2))
    chosen = world.quick.schedule(first, world.cache.nodes()).node
    assert len(asked) == 50
    world.cache.assume(first, chosen)
    asked.clear()
    world.quick.schedule(second, world.cache.nodes())
    assert asked == [chosen]
    # That the informer confirms what was assumed changes nothing.
    bound = first.obj | {"spec": first.obj["spec"] | {"nodeName": chosen}}
    world.cache.add_pod(PodInfo(bound))
    asked.clear()
    world.quick.schedule(PodInfo(pod(world, {}, "red", "1")), world.cache.nodes())
    assert asked == []
