"""Where a DaemonSet's pods should be, and what to create and delete for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from pilothouse.controllermanager.controller_ref import controller_reference
from pilothouse.controllermanager.intstr import scaled_value
from pilothouse.controllermanager.node_affinity import matches_node
from pilothouse.controllermanager.pods import (
    is_available,
    is_deleted,
    is_ready,
    is_terminal,
    node_of,
    phase_of,
    pod_from_template,
)
from pilothouse.controllermanager.revision_history import HASH_LABEL
from pilothouse.controllermanager.taints import taints_of, tolerates

GENERATION_LABEL = "pod-template-generation"
GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


@dataclass(slots=True)
class Plan:
    create: list[str] = field(default_factory=list)
    """Names of nodes that get a pod."""
    delete: list[Obj] = field(default_factory=list)
    failed: list[tuple[str, Obj]] = field(default_factory=list)
    """Failed pods by node: each is deleted when its back-off allows."""
    events: list[tuple[str, str, str]] = field(default_factory=list)


def daemon_tolerations(spec: Obj) -> list[Obj]:
    """The template's tolerations and those of every daemon pod."""
    wanted = [*_TOLERATED, _NETWORK] if spec.get("hostNetwork") else list(_TOLERATED)
    tolerations = list(spec.get("tolerations") or ())
    for key, effect in wanted:
        new = {"key": key, "operator": "Exists", "effect": effect}
        if not any(all(t.get(k) == v for k, v in new.items()) for t in tolerations):
            tolerations.append(new)
    return tolerations


def should_run(daemon_set: Obj, node: Obj) -> tuple[bool, bool]:
    """(should a pod be started there, may one that runs stay)"""
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeName") not in (None, "", name_of(node)):
        return False, False
    if not matches_node(spec, node):
        return False, False
    tolerations = daemon_tolerations(spec)
    blocking = [
        taint["effect"]
        for taint in taints_of(node)
        if taint.get("effect") in ("NoSchedule", "NoExecute")
        and not any(tolerates(toleration, taint) for toleration in tolerations)
    ]
    return not blocking, "NoExecute" not in blocking


def target_node(pod: Obj) -> str:
    """Where the pod runs or, before it is scheduled, where it must go."""
    if node_of(pod):
        return node_of(pod)
    terms = get_nested(
        pod, "spec", "affinity", "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms", default=(),
    )  # fmt: skip
    for term in terms:
        for requirement in term.get("matchFields") or ():
            if requirement["key"] == "metadata.name" and requirement["operator"] == "In":
                return requirement["values"][0]  # type: ignore[no-any-return]
    return ""


def by_node(pods: Iterable[Obj]) -> dict[str, list[Obj]]:
    """The pods that count, by node."""
    found: dict[str, list[Obj]] = {}
    for pod in pods:
        node = target_node(pod)
        if node and not (is_terminal(pod) and is_deleted(pod)):
            found.setdefault(node, []).append(pod)
    return found


def make_pod(daemon_set: Obj, node: str, hashed: str) -> Obj:
    """The pod for one node; the scheduler binds it by its affinity."""
    pod = pod_from_template(
        copy_object(daemon_set["spec"]["template"]), daemon_set, controller_reference(daemon_set)
    )
    labels = pod["metadata"].setdefault("labels", {})
    generation = (meta(daemon_set).get("annotations") or {}).get(GENERATION_ANNOTATION)
    if generation:
        labels[GENERATION_LABEL] = generation
    labels[HASH_LABEL] = hashed
    spec = pod["spec"]
    spec["tolerations"] = daemon_tolerations(spec)
    field_term = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    spec["affinity"] = affinity | {
        "nodeAffinity": node_affinity
        | {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [field_term]}]
            }
        }
    }
    return pod


def is_updated(daemon_set: Obj, pod: Obj, hashed: str) -> bool:
    labels = meta(pod).get("labels") or {}
    generation = (meta(daemon_set).get("annotations") or {}).get(GENERATION_ANNOTATION)
    if generation and labels.get(GENERATION_LABEL) == generation:
        return True
    return labels.get(HASH_LABEL) == hashed


def plan_placement(
    daemon_set: Obj, nodes: Sequence[Obj], pods: Mapping[str, Sequence[Obj]], hashed: str,
    now: float,
) -> Plan:  # fmt: skip
    """One pod on each node that should have one, none elsewhere."""
    plan = Plan()
    present = {name_of(node) for node in nodes}
    for node in nodes:
        wanted, may_stay = should_run(daemon_set, node)
        here = pods.get(name_of(node))
        if wanted and not here:
            plan.create.append(name_of(node))
        elif may_stay:
            _keep_one(plan, daemon_set, name_of(node), here or (), hashed, wanted, now)
        elif here:
            plan.delete += [pod for pod in here if not is_deleted(pod)]
    for name, here in pods.items():
        if name not in present:  # unscheduled pods that wait for a node that is gone
            plan.delete += [p for p in here if not node_of(p) and not is_deleted(p)]
    return plan


def _keep_one(
    plan: Plan, daemon_set: Obj, node: str, pods: Sequence[Obj], hashed: str, wanted: bool,
    now: float,
) -> None:  # fmt: skip
    running: list[Obj] = []
    for pod in pods:
        if is_deleted(pod):
            continue
        where = f"{namespace_of(pod)}/{name_of(pod)} on node {node}"
        if phase_of(pod) == "Failed":
            plan.failed.append((node, pod))
        elif phase_of(pod) == "Succeeded":
            message = f"Found succeeded daemon pod {where}, will try to delete it"
            plan.events.append(("Normal", "SucceededDaemonPod", message))
            plan.delete.append(pod)
        else:
            running.append(pod)
    running.sort(key=_age_order)
    if not allows_surge(daemon_set):
        plan.delete += running[1:]
        return
    if len(running) <= 1:
        if not running and wanted:
            plan.create.append(node)
        return
    _replace_on_surge(plan, daemon_set, running, hashed, now)


def _replace_on_surge(
    plan: Plan, daemon_set: Obj, running: Sequence[Obj], hashed: str, now: float
) -> None:
    """Of a new and an old pod on a node the old one goes once the new one can do its work."""
    new = [p for p in running if (meta(p).get("labels") or {}).get(HASH_LABEL) == hashed]
    old = [p for p in running if p not in new]
    plan.delete += new[1:] + old[1:]
    if new and old:
        min_ready = daemon_set["spec"].get("minReadySeconds") or 0
        if not is_ready(old[0]) or is_available(new[0], min_ready, now):
            plan.delete.append(old[0])


def _age_order(pod: Obj) -> tuple[bool, str, str]:
    return not node_of(pod), meta(pod).get("creationTimestamp") or "", name_of(pod)


def allows_surge(daemon_set: Obj) -> bool:
    try:
        return _limits(daemon_set, 1)[0] > 0
    except ValueError:
        return False


def _limits(daemon_set: Obj, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type", "RollingUpdate") != "RollingUpdate" or rolling is None:
        return 0, 0
    surge = scaled_value(rolling.get("maxSurge"), desired, round_up=True)
    unavailable = scaled_value(rolling.get("maxUnavailable"), desired, round_up=True)
    return surge, unavailable


def plan_rolling_update(
    daemon_set: Obj, nodes: Sequence[Obj], pods: Mapping[str, Sequence[Obj]], hashed: str,
    now: float,
) -> Plan:  # fmt: skip
    """Replaces outdated pods, at most maxUnavailable (or maxSurge) of them at a time."""
    wanted = {name_of(n) for n in nodes if should_run(daemon_set, n)[0]}
    surge, unavailable = _limits(daemon_set, len(wanted))
    if wanted and not surge and not unavailable:
        unavailable = 1
    roll = _Roll(daemon_set, wanted, hashed, now)
    everything = {name: pods.get(name, ()) for name in [*pods, *(wanted - set(pods))]}
    if surge == 0:
        return roll.by_deleting(everything, unavailable)
    return roll.by_surging(everything, surge)


class _Roll:
    def __init__(self, daemon_set: Obj, wanted: set[str], hashed: str, now: float) -> None:
        self._set = daemon_set
        self._wanted = wanted
        self._hash = hashed
        self._now = now
        self._min_ready = daemon_set["spec"].get("minReadySeconds") or 0

    def _available(self, pod: Obj) -> bool:
        return is_available(pod, self._min_ready, self._now)

    def _split(self, pods: Sequence[Obj]) -> tuple[Obj | None, Obj | None] | None:
        """(updated pod, outdated pod); None when there is one too many of a kind."""
        alive = [pod for pod in pods if not is_deleted(pod)]
        new = [pod for pod in alive if is_updated(self._set, pod, self._hash)]
        old = [pod for pod in alive if pod not in new]
        if len(new) > 1 or len(old) > 1:
            return None
        return (new[0] if new else None), (old[0] if old else None)

    def by_deleting(self, pods: Mapping[str, Sequence[Obj]], limit: int) -> Plan:
        plan, candidates, unavailable = Plan(), list[Obj](), 0
        for here in pods.values():
            split = self._split(here)
            if split is None or (split[0] is None) == (split[1] is None):
                unavailable += 1
                continue
            new, old = split
            if old is None:
                unavailable += new is None or not self._available(new)
            elif not self._available(old):
                plan.delete.append(old)
                unavailable += 1
            else:
                candidates.append(old)
        plan.delete += candidates[: max(0, limit - unavailable)]
        return plan

    def by_surging(self, pods: Mapping[str, Sequence[Obj]], limit: int) -> Plan:
        plan = Plan()
        candidates, misplaced = list[str](), list[Obj]()
        surging = available = 0
        for node, here in pods.items():
            split = self._split(here)
            if split is None:
                surging += 1
                continue
            new, old = split
            newest = old or new
            available += newest is not None and self._available(newest)
            if old is None:
                continue
            if new is not None:
                if self._available(new):
                    plan.delete.append(old)
                else:
                    surging += 1
            elif node not in self._wanted:
                (misplaced if self._available(old) else plan.delete).append(old)
            elif not self._available(old):
                plan.create.append(node)
            else:
                candidates.append(node)
        plan.delete += misplaced[: max(0, available - len(self._wanted))]
        plan.create += candidates[: max(0, limit - surging)]
        return plan


def compute_status(
    daemon_set: Obj, nodes: Sequence[Obj], pods: Mapping[str, Sequence[Obj]], hashed: str,
    now: float, *, observed: bool,
) -> Obj:  # fmt: skip
    counts = dict.fromkeys(
        ("desiredNumberScheduled", "currentNumberScheduled", "numberMisscheduled", "numberReady",
         "updatedNumberScheduled", "numberAvailable"), 0,
    )  # fmt: skip
    min_ready = daemon_set["spec"].get("minReadySeconds") or 0
    for node in nodes:
        here = pods.get(name_of(node)) or ()
        if not should_run(daemon_set, node)[0]:
            counts["numberMisscheduled"] += bool(here)
            continue
        counts["desiredNumberScheduled"] += 1
        if not here:
            continue
        counts["currentNumberScheduled"] += 1
        pod = min(here, key=_age_order)
        counts["numberReady"] += is_ready(pod)
        counts["numberAvailable"] += is_available(pod, min_ready, now)
        counts["updatedNumberScheduled"] += is_updated(daemon_set, pod, hashed)
    old = daemon_set.get("status") or {}
    status: Obj = dict(counts)
    status["numberUnavailable"] = counts["desiredNumberScheduled"] - counts["numberAvailable"]
    for name in ("updatedNumberScheduled", "numberAvailable", "numberUnavailable"):
        if not status[name]:
            del status[name]
    generation = meta(daemon_set).get("generation") or 0
    status["observedGeneration"] = generation if observed else old.get("observedGeneration", 0)
    for name in ("collisionCount", "conditions"):
        if old.get(name) is not None:
            status[name] = old[name]
    return status


def backoff_key(daemon_set: Obj, node: str) -> str:
    observed = get_nested(daemon_set, "status", "observedGeneration", default=0)
    return f"{uid_of(daemon_set)}/{observed}/{node}"
