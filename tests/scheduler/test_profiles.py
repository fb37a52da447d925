"""KubeSchedulerConfiguration: profiles, plugin sets, arguments, extenders; scoring strategies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.testing import FakeClock, make_node, make_object, make_pod
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import PODS
from pilothouse.kubeclient.testing import FakeClient
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.component_config import load
from pilothouse.scheduler.config import SchedulerConfig
from pilothouse.scheduler.explain import as_text, explain
from pilothouse.scheduler.extender import Extender, ExtenderConfig, ExtenderError
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins import registry
from pilothouse.scheduler.plugins.default_spread import SYSTEM_DEFAULTS, DefaultSpread
from pilothouse.scheduler.plugins.node_affinity import NodeAffinity
from pilothouse.scheduler.plugins.order import DEFAULT_PLUGINS
from pilothouse.scheduler.plugins.resources_fit import (
    ResourcesFit,
    capacity_ratio,
    least_allocated,
    most_allocated,
)
from pilothouse.scheduler.plugins.topology_spread import PodTopologySpread
from pilothouse.scheduler.profile import PluginSet, Profile, ProfileError, resolve
from pilothouse.scheduler.scheduler import Scheduler

HEADER = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
DEFAULTS = [name for name, _ in DEFAULT_PLUGINS]


def read(text: str) -> SchedulerConfig:
    return load(HEADER + text, SchedulerConfig())


# Profiles.


def test_without_profiles_there_is_the_default_one() -> None:
    (profile,) = read("").profiles
    assert profile.scheduler_name == "default-scheduler"
    resolved = resolve(profile)
    assert resolved.names == resolved.multi_point == DEFAULTS
    assert resolved.weights["TaintToleration"] == 3


def test_plugins_are_switched_per_point() -> None:
    config = read(
        """
percentageOfNodesToScore: 30
podMaxBackoffSeconds: 20
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  plugins:
    multiPoint:
      disabled: [{name: ImageLocality}]
      enabled: [{name: Mine, weight: 7}]
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
    filter:
      disabled: [{name: NodePorts}]
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated}}
"""
    )
    assert config.percentage_of_nodes_to_score == 30 and config.pod_max_backoff == 20
    profile = config.profiles[1]
    assert profile.arguments["NodeResourcesFit"]["scoringStrategy"]["type"] == "MostAllocated"
    resolved = resolve(profile)
    assert "ImageLocality" not in resolved.names and resolved.names[-1] == "Mine"
    assert resolved.at("score", DEFAULTS) == ["NodeResourcesFit"]
    assert resolved.weights["NodeResourcesFit"] == 5 and resolved.weights["Mine"] == 7
    filters = resolved.at("filter", ["NodeName", "NodePorts", "NodeAffinity"])
    assert filters == ["NodeName", "NodeAffinity"]


@given(st.sets(st.sampled_from(DEFAULTS)), st.lists(st.sampled_from(DEFAULTS), unique=True))
def test_each_plugin_runs_at_most_once(disabled: set[str], enabled: list[str]) -> None:
    profile = Profile(plugins={
        "filter": PluginSet(tuple((n, 0) for n in enabled), frozenset(disabled)),
    })  # fmt: skip
    run = resolve(profile).at("filter", DEFAULTS)
    assert len(run) == len(set(run))
    assert set(run) == (set(DEFAULTS) - disabled) | set(enabled)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profiles: [{plugins: {filtre: {}}}]", 'unknown field "profiles.0..plugins.filtre"'),
        ("profiles: [{schedulerName: a}, {}]", "profiles.1..schedulerName: Required value"),
        ("profiles: [{schedulerName: a}, {schedulerName: a}]", 'Duplicate value: "a"'),
        ("percentageOfNodesToScore: 101", "not in valid range"),
        ("podInitialBackoffSeconds: 0", "must be greater than 0"),
        ("extenders: [{filterVerb: f}]", "extenders.0..urlPrefix: Required value"),
        ("extenders: [{urlPrefix: u, prioritizeVerb: p}]", "must have a positive weight"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read(text)


def test_other_kinds_and_versions_are_refused() -> None:
    with pytest.raises(ProfileError, match="couldn't decode"):
        load("kind: Pod", SchedulerConfig())
    with pytest.raises(ProfileError, match="no kind"):
        load("kind: KubeSchedulerConfiguration\napiVersion: v0", SchedulerConfig())


def test_a_profile_needs_a_bind_plugin() -> None:
    with pytest.raises(ProfileError, match="at least one bind plugin"):
        resolve(Profile(plugins={"bind": PluginSet(disabled=frozenset("*"))}))


# Strategies.


@pytest.mark.parametrize(
    ("requested", "least", "most", "ratio"),
    [(0, 100, 0, 0), (25, 75, 25, 50), (50, 50, 50, 100), (100, 0, 100, 0), (200, 0, 100, 0)],
)
def test_strategies(requested: int, least: int, most: int, ratio: int) -> None:
    assert least_allocated(requested, 100) == least
    assert most_allocated(requested, 100) == most
    assert capacity_ratio([(0, 0), (50, 100), (100, 0)])(requested, 100) == ratio


@given(st.integers(0, 300), st.integers(1, 200))
def test_strategies_stay_in_range(requested: int, capacity: int) -> None:
    for strategy in (least_allocated, most_allocated, capacity_ratio([(0, 0), (100, 100)])):
        assert 0 <= strategy(requested, capacity) <= 100


def test_unknown_strategy() -> None:
    with pytest.raises(ValueError, match="scoring strategy Best is not supported"):
        ResourcesFit.from_args({"scoringStrategy": {"type": "Best"}})


# A scheduler with several profiles.


def node(name: str, used: str = "", **labels: str) -> dict[str, Any]:
    made = make_node(name)
    made["metadata"]["labels"] = {"kubernetes.io/hostname": name, **labels}
    made["status"] = {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}
    return made


def pod(name: str, cpu: str = "1", **spec: Any) -> dict[str, Any]:
    made = make_pod(name)
    made["metadata"]["uid"] = f"uid-{name}"
    made["spec"].pop("nodeName", None)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    made["spec"] |= spec
    return made


@asynccontextmanager
async def running(
    config: SchedulerConfig, *objects: dict[str, Any]
) -> AsyncIterator[tuple[Scheduler, Any]]:
    clock, activity, random = FakeClock(), ActivityTracker(), Random(1)
    client = FakeClient(clock=clock)
    for obj in objects:
        client.seed(obj)

    def bind(action: Any) -> Any:
        bound = copy_object(client.current(PODS, action.name, action.namespace))
        bound["spec"]["nodeName"] = action.object["target"]["name"]
        client.seed(bound)
        return action.object

    client.react("create", "pods/binding", bind)
    informers = SharedInformerFactory(client, clock, random, activity)
    scheduler = Scheduler(Environment(client, informers, clock, random, activity), config)
    await scheduler.start()
    try:
        await activity.settle()
        yield scheduler, lambda name: client.current(PODS, name, "default")["spec"].get("nodeName")
    finally:
        await scheduler.stop()
        await informers.stop()


async def test_profiles_decide_differently() -> None:
    config = read(
        """
profiles:
- schedulerName: spreading
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
  plugins:
    score: {disabled: [{name: NodeResourcesBalancedAllocation}]}
"""
    )
    async with running(
        config, node("empty"), node("busy"), pod("there", "2", nodeName="busy"),
        pod("a", schedulerName="spreading"), pod("b", schedulerName="packing"),
        pod("c", schedulerName="nobody"),
    ) as (scheduler, node_of):  # fmt: skip
        assert (node_of("a"), node_of("b"), node_of("c")) == ("empty", "busy", None)
        text = scheduler.metrics_text()
        assert 'schedule_attempts_total{result="scheduled",profile="packing"} 1' in text
        assert "scheduler_pod_scheduling_attempts_count 2" in text


class OnlyFast:
    """A plugin from outside."""

    name = "OnlyFast"

    def __init__(self, handle: Any, args: Any) -> None:
        self._label = args["label"]

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if self._label in node.labels:
            return None
        return Status(Code.UNSCHEDULABLE, ("node(s) are slow",))


class Entry:
    name = "OnlyFast"

    @staticmethod
    def load() -> type:
        return OnlyFast


async def test_plugins_of_other_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lambda group, name: [Entry] if (group, name) == (  # noqa: E731
        registry.ENTRY_POINTS, "OnlyFast") else []  # fmt: skip
    monkeypatch.setattr("importlib.metadata.entry_points", found)
    config = read(
        """
profiles:
- plugins: {multiPoint: {enabled: [{name: OnlyFast}]}}
  pluginConfig: [{name: OnlyFast, args: {label: fast}}]
"""
    )
    objects = (node("slow"), node("quick", fast="yes"), pod("a"))
    async with running(config, *objects) as (scheduler, node_of):
        assert node_of("a") == "quick"
        framework = scheduler.frameworks["default-scheduler"]
        info = PodInfo(pod("b"))
        explanation = explain(framework, info, scheduler.cache.nodes())
    assert explanation.best == ["quick"]
    (slow,) = [n for n in explanation.nodes if n.name == "slow"]
    assert slow.refusals == {"OnlyFast": ("node(s) are slow",)} and not slow.unresolvable
    text = as_text(explanation)
    assert "goes to quick" in text and "OnlyFast: node(s) are slow" in text
    json.dumps(explanation.as_dict())


def test_unknown_plugin() -> None:
    with pytest.raises(registry.UnknownPlugin, match='plugin "Nobody" does not exist'):
        registry.outside_factory("Nobody")


def test_added_affinity_is_for_all_pods() -> None:
    terms = [{"matchExpressions": [{"key": "fast", "operator": "Exists"}]}]
    added = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    plugin, info = NodeAffinity(added), NodeInfo("n")
    info.set_node(node("n"))
    status = plugin.filter(CycleState(), PodInfo(pod("a")), info)
    assert status is not None
    assert status.reasons == ("node(s) didn't match scheduler-enforced node affinity",)


# Default spreading.


def spread(*services: Any, owner: Any = None) -> PodTopologySpread:
    defaults = DefaultSpread(SYSTEM_DEFAULTS, True, lambda ns: services, lambda kind, key: owner)
    return PodTopologySpread(defaults)


def test_pods_of_a_service_are_spread_by_default() -> None:
    service = make_object("v1", "Service", "web", "default", spec={"selector": {"app": "web"}})
    plugin, nodes = spread(service), []
    for name in ("a", "b"):
        info = NodeInfo(name)
        info.set_node(node(name))
        nodes.append(info)
    other = pod("other")
    other["metadata"]["labels"] = {"app": "web"}
    nodes[0].add_pod(PodInfo(other))
    mine = pod("mine")
    mine["metadata"]["labels"] = {"app": "web"}
    state, info_of = CycleState(), PodInfo(mine)
    assert plugin.pre_score(state, info_of, nodes) is None
    scores = [plugin.score(state, info_of, n) for n in nodes]
    plugin.normalize(state, info_of, scores)
    assert scores[0] < scores[1] == 100
    # It is a wish, never a must.
    status = plugin.pre_filter(CycleState(), info_of, nodes)
    assert isinstance(status, Status) and status.code is Code.SKIP


def test_pods_that_belong_to_nobody_are_not_spread() -> None:
    status = spread().pre_score(CycleState(), PodInfo(pod("a")), [])
    assert status is not None and status.code is Code.SKIP


# Extenders, over HTTP.


@asynccontextmanager
async def extender_server(**answers: Any) -> AsyncIterator[tuple[str, list[Any]]]:
    from aiohttp import web

    asked: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        asked.append((verb, await request.json()))
        if verb not in answers:
            return web.Response(status=500)
        return web.json_response(answers[verb])

    app = web.Application()
    app.router.add_post("/x/{verb}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/x", asked
    finally:
        await runner.cleanup()


async def test_extender_filters_ranks_and_binds() -> None:
    filtered = {"nodenames": ["a", "b"], "failedNodes": {"c": "too far"}}
    ranked = [{"host": "a", "score": 1}, {"host": "b", "score": 10}]
    async with extender_server(filter=filtered, rank=ranked, bind={}) as (url, asked):
        config = read(
            f"""
extenders:
- urlPrefix: {url}
  filterVerb: filter
  prioritizeVerb: rank
  bindVerb: bind
  weight: 100
  nodeCacheCapable: true
"""
        )
        async with running(config, node("a"), node("b"), node("c"), pod("p")) as (_, node_of):
            assert node_of("p") is None, "the extender says that it has bound it"
        assert [verb for verb, _ in asked] == ["filter", "rank", "bind"]
        assert sorted(asked[0][1]["nodenames"]) == ["a", "b", "c"]
        assert asked[2][1]["node"] == "b" and asked[2][1]["podName"] == "p"


@pytest.mark.parametrize("ignorable", [True, False])
async def test_extender_that_fails(ignorable: bool) -> None:
    async with extender_server() as (url, _):
        config = SchedulerConfig(
            extenders=(ExtenderConfig(url, filter_verb="filter", ignorable=ignorable),)
        )
        async with running(config, node("a"), pod("p")) as (_, node_of):
            assert (node_of("p") == "a") is ignorable


async def test_extender_that_invents_nodes() -> None:
    info = NodeInfo("a")
    info.set_node(node("a"))
    async with extender_server(filter={"nodenames": ["ghost"]}) as (url, _):
        extender = Extender(ExtenderConfig(url, filter_verb="filter", node_cache_capable=True))
        with pytest.raises(ExtenderError, match='claims a filtered node "ghost"'):
            await extender.filter(PodInfo(pod("p")), [info])
        await extender.close()


def test_extender_is_asked_for_its_resources_only() -> None:
    extender = Extender(ExtenderConfig("u", managed_resources=frozenset(["x/gpu"])))
    assert not extender.is_interested(PodInfo(pod("p")))
    wants = pod("q")
    wants["spec"]["containers"][0]["resources"] = {"limits": {"x/gpu": "1"}}
    assert extender.is_interested(PodInfo(wants))


class Broken:
    """A plugin from outside with a mistake at one point."""

    name = "OnlyFast"

    def __init__(self, handle: Any, args: Any) -> None:
        self.point = args["point"]

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        if self.point == "reserve":
            raise KeyError("mistake")

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        pass

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        if self.point == "preBind":
            self.point = ""
            raise KeyError("mistake")


@pytest.mark.parametrize("point", ["reserve", "preBind"])
async def test_mistakes_of_plugins_lose_no_pod(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    monkeypatch.setattr(registry, "outside_factory", lambda name: Broken)
    config = read(
        "profiles:\n- plugins: {multiPoint: {enabled: [{name: OnlyFast}]}}\n"
        f"  pluginConfig: [{{name: OnlyFast, args: {{point: {point}}}}}]\n"
    )
    async with running(config, node("a"), pod("p")) as (scheduler, node_of):
        assert node_of("p") is None and scheduler.health() is None
        assert not scheduler.cache.is_assumed("uid-p")
        assert scheduler.queue.counts()["backoff"] == 1


@pytest.mark.parametrize(("agrees", "gone"), [(True, ["low-b"]), (False, [])])
async def test_extender_chooses_among_victims(agrees: bool, gone: list[str]) -> None:
    chosen = {"b": {"pods": [{"uid": "uid-low-b"}]}} if agrees else {}
    low = [pod(f"low-{n}", "4", nodeName=n, priority=1) for n in ("a", "b")]
    async with extender_server(preempt={"nodeNameToMetaVictims": chosen}) as (url, asked):
        config = SchedulerConfig(
            extenders=(ExtenderConfig(url, preempt_verb="preempt", node_cache_capable=True),)
        )
        objects = (node("a"), node("b"), *low, pod("high", "4", priority=10))
        async with running(config, *objects) as (scheduler, _):
            present = {p["metadata"]["name"] for p in scheduler._pods.list()}
        assert sorted(asked[0][1]["nodeNameToMetaVictims"]) == ["a", "b"]
    assert [name for name in ("low-a", "low-b") if name not in present] == gone
