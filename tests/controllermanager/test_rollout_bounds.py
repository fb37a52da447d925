"""Rolling updates of DaemonSets and StatefulSets keep their bounds, whatever pods do meanwhile."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.testing import make_node, make_workload
from pilothouse.controllermanager.daemonset import compute as daemon
from pilothouse.controllermanager.intstr import scaled_value
from pilothouse.controllermanager.statefulset.compute import SetSync

NOW = 1_800_000_000.0
LIMIT = st.one_of(st.integers(0, 4), st.integers(0, 100).map(lambda p: f"{p}%"))
EVENT = st.sampled_from(["ready", "ready", "gone", "new", "break"])
EVENTS = st.lists(st.tuples(st.integers(0, 30), EVENT), max_size=40)


def set_ready(pod: dict[str, Any], ready: bool) -> None:
    pod["status"] = {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    }


def is_up(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or [{"status": "False"}]
    return conditions[0]["status"] == "True" and "deletionTimestamp" not in pod["metadata"]


class Daemons:
    """Nodes with pods; deleted pods linger until the test lets them go."""

    def __init__(self, nodes: int, surge: Any, unavailable: Any) -> None:
        self.set = make_workload("DaemonSet", "d", uid="d", replicas=None, spec={
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                "maxSurge": surge, "maxUnavailable": unavailable}}})  # fmt: skip
        self.nodes = [make_node(f"n{i}") for i in range(nodes)]
        self.version = 0
        self.made = 0
        self.pods: list[dict[str, Any]] = []
        for node in self.nodes:
            self._create(node["metadata"]["name"])
        for pod in self.pods:
            set_ready(pod, True)

    def _create(self, node: str) -> None:
        self.made += 1
        pod = daemon.make_pod(self.set, node, f"v{self.version}")
        pod["metadata"] |= {
            "name": f"p{self.made}", "uid": f"p{self.made}", "namespace": "default",
            "creationTimestamp": f"2026-01-01T{self.made // 3600:02}:{self.made // 60 % 60:02}:"
                                 f"{self.made % 60:02}Z",
        }  # fmt: skip
        pod["spec"]["nodeName"] = node
        pod["status"] = {"phase": "Pending"}
        self.pods.append(pod)

    def by_node(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for pod in self.pods:
            found.setdefault(pod["spec"]["nodeName"], []).append(pod)
        return found

    def step(self) -> list[dict[str, Any]]:
        """What the controller does at one look; the pods that it deleted while they were up."""
        hashed, victims = f"v{self.version}", []
        for look in (daemon.plan_placement, daemon.plan_rolling_update):
            plan = look(self.set, self.nodes, self.by_node(), hashed, NOW)
            for pod in plan.delete:
                if is_up(pod):
                    victims.append(pod)
                pod["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
            for node in plan.create:
                self._create(node)
        return victims

    def happens(self, number: int, event: str) -> None:
        if event == "new":
            self.version += 1
        elif self.pods:
            pod = self.pods[number % len(self.pods)]
            deleted = "deletionTimestamp" in pod["metadata"]
            if event == "gone" and deleted:
                self.pods.remove(pod)
            elif event in ("ready", "break") and not deleted:
                set_ready(pod, event == "ready")

    def nodes_up(self) -> set[str]:
        return {pod["spec"]["nodeName"] for pod in self.pods if is_up(pod)}

    def finish(self) -> None:
        for _ in range(10 * len(self.nodes) + 10):
            self.step()
            self.pods = [p for p in self.pods if "deletionTimestamp" not in p["metadata"]]
            for pod in self.pods:
                set_ready(pod, True)


@given(st.integers(1, 8), LIMIT, LIMIT, EVENTS)
@settings(max_examples=80)
def test_daemon_set_keeps_its_bounds(nodes, surge, unavailable, events) -> None:
    most = scaled_value(surge, nodes, round_up=True)
    if most:
        unavailable = 0  # validation lets only one of them be set
    world = Daemons(nodes, surge, unavailable)
    least_gone = scaled_value(unavailable, nodes, round_up=True) or (0 if most else 1)
    for number, event in events:
        world.happens(number, event)
        before = len(world.nodes_up())
        victims = world.step()
        lost = before - len(world.nodes_up())
        # Whoever is down for other reasons counts, too: the controller adds none beyond the limit.
        assert not lost or nodes - len(world.nodes_up()) <= max(least_gone, 0)
        alive = [p for p in world.pods if "deletionTimestamp" not in p["metadata"]]
        doubled = len(alive) - len({p["spec"]["nodeName"] for p in alive})
        if not most:
            assert doubled == 0
        assert victims == [] or most or least_gone
    world.finish()
    assert len(world.pods) == nodes == len(world.nodes_up())
    assert {p["metadata"]["labels"][daemon.HASH_LABEL] for p in world.pods} == {f"v{world.version}"}


class Ordinals:
    """A StatefulSet and its pods."""

    def __init__(self, replicas: int, unavailable: Any, parallel: bool, partition: int) -> None:
        self.set = make_workload("StatefulSet", "s", uid="s", replicas=replicas, spec={
            "serviceName": "s", "podManagementPolicy": "Parallel" if parallel else "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {
                "partition": partition, "maxUnavailable": unavailable}}})  # fmt: skip
        self.set["status"] = {}
        self.version = self.settled = 0
        self.pods: dict[str, dict[str, Any]] = {}
        for _ in range(2 * replicas + 2):
            self.step()
            self.all_ready()

    def all_ready(self) -> None:
        for name, pod in list(self.pods.items()):
            if "deletionTimestamp" in pod["metadata"]:
                del self.pods[name]
            else:
                set_ready(pod, True)

    def step(self) -> None:
        template = self.set["spec"]["template"]
        sync = SetSync(
            self.set, list(self.pods.values()), (f"s-{self.settled}", template),
            (f"s-{self.version}", template), NOW,
        )  # fmt: skip
        steps = sync.plan()
        for pod in steps.create:
            name = pod["metadata"]["name"]
            assert name not in self.pods or self.pods[name] is pod
            pod["metadata"]["uid"] = name
            pod["status"] = {"phase": "Pending"}
            self.pods[name] = pod
        for pod in steps.delete:
            pod["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
        self.set["status"] = sync.status(steps)

    def up(self) -> int:
        return sum(map(is_up, self.pods.values()))

    def happens(self, number: int, event: str) -> None:
        if event == "new":
            if self.set["status"].get("currentRevision") == f"s-{self.version}":
                self.settled = self.version
            self.version += 1
        elif self.pods:
            name = sorted(self.pods)[number % len(self.pods)]
            deleted = "deletionTimestamp" in self.pods[name]["metadata"]
            if event == "gone" and deleted:
                del self.pods[name]
            elif event in ("ready", "break") and not deleted:
                set_ready(self.pods[name], event == "ready")


@given(
    st.integers(1, 7), st.one_of(st.none(), st.integers(1, 4), st.just("40%")), st.booleans(),
    st.integers(0, 3), EVENTS,
)  # fmt: skip
@settings(max_examples=80)
def test_stateful_set_keeps_its_bounds(replicas, unavailable, parallel, partition, events) -> None:
    world = Ordinals(replicas, unavailable, parallel, partition)
    assert world.up() == replicas
    limit = max(1, scaled_value(unavailable, replicas, round_up=False, default=1))
    for number, event in events:
        world.happens(number, event)
        before = world.up()
        kept = {name: pod for name, pod in world.pods.items() if ordinal(name) < partition}
        world.step()
        if world.up() < before:
            assert replicas - world.up() <= limit
        for name, pod in kept.items():
            assert not is_up(pod) or world.pods[name] is pod
        if not parallel:
            fresh = [p for p in world.pods.values() if p["status"]["phase"] == "Pending"]
            assert len(fresh) <= 1
    for _ in range(4 * replicas + 8):
        world.all_ready()
        world.step()
    world.all_ready()
    updated = {
        n
        for n, p in world.pods.items()
        if p["metadata"]["labels"]["controller-revision-hash"] == f"s-{world.version}"
    }
    assert world.up() == replicas
    assert {f"s-{n}" for n in range(partition, replicas)} <= updated


def ordinal(name: str) -> int:
    return int(name.rpartition("-")[2])
