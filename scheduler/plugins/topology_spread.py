"""PodTopologySpread: ``spec.topologySpreadConstraints``
(pkg/scheduler/framework/plugins/podtopologyspread). Without constraints of its own a pod is not
spread here: upstream's cluster-wide default constraints are left to the resource scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.apimachinery.labels import (
    Requirement,
    Selector,
    selector_from_label_selector,
)
from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.tolerations import find_untolerated_taint
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import (
    MAX_NODE_SCORE,
    SKIP,
    Code,
    CycleState,
    Status,
)
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.node_affinity import required_affinity

REASON = "node(s) didn't match pod topology spread constraints"
REFUSAL = Status(Code.UNSCHEDULABLE, (REASON,))
NO_LABEL = Status(Code.UNRESOLVABLE, (f"{REASON} (missing required label)",))
HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One, compiled. ``taints``: nodes whose taints the pod does not tolerate don't count."""

    key: str
    max_skew: int
    min_domains: int
    selector: Selector
    affinity: bool
    taints: bool

    def counts_node(self, pod: PodInfo, node: NodeInfo) -> bool:
        if self.affinity and not required_affinity(pod).matches(node.name, node.labels):
            return False
        return not self.taints or not node.taints or _tolerates(pod, node)

    def counts_pod(self, pod: PodInfo, other: PodInfo) -> bool:
        return (
            other.namespace == pod.namespace
            and not other.deleting
            and self.selector.matches(other.labels)
        )


class Spread(list[Counter[str]]):
    """Matching pods by domain, one counter a constraint; a domain without pods counts 0."""

    def copy(self) -> Spread:
        return Spread(Counter(counter) for counter in self)


@dataclass(frozen=True, slots=True)
class Scoring:
    counts: Spread
    weights: tuple[float, ...]
    ignored: frozenset[str]
    """Nodes that lack one of the labels."""


class PodTopologySpread:
    name = "PodTopologySpread"

    # -- filter --------------------------------------------------------------------------

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        constraints = hard(pod)
        if not constraints:
            return SKIP
        state[self.name] = count(pod, constraints, nodes)
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        for constraint, counts in zip(hard(pod), state[self.name], strict=True):
            value = node.labels.get(constraint.key)
            if value is None:
                return NO_LABEL
            least = min(counts.values(), default=0)
            if len(counts) < constraint.min_domains:
                least = 0
            itself = constraint.selector.matches(pod.labels)
            if counts[value] + itself - least > constraint.max_skew:
                return REFUSAL
        return None

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._change(state, pod, other, node, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._change(state, pod, other, node, -1)

    def _change(
        self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo, by: int
    ) -> None:
        constraints = hard(pod)
        if self.name not in state or any(c.key not in node.labels for c in constraints):
            return
        for constraint, counts in zip(constraints, state[self.name], strict=True):
            if constraint.counts_node(pod, node) and constraint.counts_pod(pod, other):
                counts[node.labels[constraint.key]] += by

    # -- score ---------------------------------------------------------------------------

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        constraints = soft(pod)
        if not constraints:
            return SKIP
        ignored = frozenset(
            node.name for node in nodes if any(c.key not in node.labels for c in constraints)
        )
        left = [node for node in nodes if node.name not in ignored]
        weights = tuple(
            math.log((len(left) if c.key == HOSTNAME else domains(c.key, left)) + 2)
            for c in constraints
        )
        state[f"{self.name}/scoring"] = Scoring(count(pod, constraints, nodes), weights, ignored)
        return None

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        scoring: Scoring = state[f"{self.name}/scoring"]
        if node.name in scoring.ignored:
            return -1
        total = 0.0
        for constraint, counts, weight in zip(
            soft(pod), scoring.counts, scoring.weights, strict=True
        ):
            total += counts[node.labels[constraint.key]] * weight + constraint.max_skew - 1
        return math.floor(total + 0.5)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int]) -> None:
        """Fewer pods are better; a node without the labels (-1) gets nothing."""
        known = [score for score in scores if score >= 0]
        least, most = min(known, default=0), max(known, default=0)
        for i, score in enumerate(scores):
            if score < 0:
                scores[i] = 0
            elif most == 0:
                scores[i] = MAX_NODE_SCORE
            else:
                scores[i] = MAX_NODE_SCORE * (most + least - score) // most

    # -- queueing ------------------------------------------------------------------------

    def events_to_register(self) -> Iterable[EventRegistration]:
        pods = Action.ADD | Action.DELETE | Action.UPDATE_POD_LABEL
        node = Action.ADD | Action.DELETE | Action.UPDATE_NODE_LABEL | Action.UPDATE_NODE_TAINT
        return (
            EventRegistration("AssignedPod", pods, _pod_changed),
            EventRegistration("Pod", Action.UPDATE_POD_LABEL),
            EventRegistration("Node", node, _node_changed),
        )


def hard(pod: PodInfo) -> list[Constraint]:
    constraints: list[Constraint] = pod.memo("HardSpread", _hard)
    return constraints


def soft(pod: PodInfo) -> list[Constraint]:
    constraints: list[Constraint] = pod.memo("SoftSpread", _soft)
    return constraints


def count(pod: PodInfo, constraints: Sequence[Constraint], nodes: Sequence[NodeInfo]) -> Spread:
    """Over the nodes that have all the labels and are the constraint's business."""
    spread = Spread(Counter() for _ in constraints)
    for node in nodes:
        if any(c.key not in node.labels for c in constraints):
            continue
        for constraint, counts in zip(constraints, spread, strict=True):
            if constraint.counts_node(pod, node):
                counts[node.labels[constraint.key]] += sum(
                    constraint.counts_pod(pod, other) for other in node.pods.values()
                )
    return spread


def domains(key: str, nodes: Sequence[NodeInfo]) -> int:
    return len({node.labels[key] for node in nodes})


def _hard(pod: Obj) -> list[Constraint]:
    return [_compile(pod, c) for c in _constraints(pod) if not _is_soft(c)]


def _soft(pod: Obj) -> list[Constraint]:
    return [_compile(pod, c) for c in _constraints(pod) if _is_soft(c)]


def _constraints(pod: Obj) -> list[Obj]:
    return pod["spec"].get("topologySpreadConstraints") or []


def _is_soft(constraint: Obj) -> bool:
    return constraint.get("whenUnsatisfiable") == "ScheduleAnyway"


def _compile(pod: Obj, constraint: Obj) -> Constraint:
    labels = pod["metadata"].get("labels") or {}
    selector = selector_from_label_selector(constraint.get("labelSelector"))
    more = [
        Requirement(key, "in", [labels[key]])
        for key in constraint.get("matchLabelKeys") or ()
        if key in labels
    ]
    return Constraint(
        constraint["topologyKey"],
        constraint.get("maxSkew", 1),
        constraint.get("minDomains") or 1,
        selector.add(*more) if more else selector,
        constraint.get("nodeAffinityPolicy") != "Ignore",
        constraint.get("nodeTaintsPolicy") == "Honor",
    )


def _tolerates(pod: PodInfo, node: NodeInfo) -> bool:
    return find_untolerated_taint(node.taints, pod.tolerations, _keeps_away) is None


def _keeps_away(taint: Obj) -> bool:
    return taint.get("effect") in ("NoSchedule", "NoExecute")


def _pod_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    return any(
        obj is not None
        and (obj["metadata"].get("namespace") or "") == pod.namespace
        and any(c.selector.matches(obj["metadata"].get("labels") or {}) for c in hard(pod))
        for obj in (old, new)
    )


def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    return any(
        obj is not None and all(c.key in (obj["metadata"].get("labels") or {}) for c in hard(pod))
        for obj in (old, new)
    )
