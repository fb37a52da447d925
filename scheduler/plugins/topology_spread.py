"""PodTopologySpread: ``spec.topologySpreadConstraints``
(pkg/scheduler/framework/plugins/podtopologyspread). A pod without constraints of its own gets the
default ones (``default_spread``), meant for the pods of its Services and its owner."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.labels import (
    Requirement,
    Selector,
    selector_from_label_selector,
)
from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.tolerations import find_untolerated_taint
from pilothouse.scheduler.cache.domain_tally import DomainTally, Tallies
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import NodeList
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import (
    MAX_NODE_SCORE,
    SKIP,
    Code,
    CycleState,
    LabelRule,
    Status,
)
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.default_spread import DefaultSpread
from pilothouse.scheduler.plugins.node_affinity import node_affinity_text, required_affinity

REASON = "node(s) didn't match pod topology spread constraints"
REFUSAL = Status(Code.UNSCHEDULABLE, (REASON,))
NO_LABEL = Status(Code.UNRESOLVABLE, (f"{REASON} (missing required label)",))
HOSTNAME = "kubernetes.io/hostname"
MAX_SELECTORS = 256


@dataclass(frozen=True, slots=True)
class Constraint:
    """One, compiled. ``taints``: nodes whose taints the pod does not tolerate don't count."""

    key: str
    max_skew: int
    min_domains: int
    selector: Selector
    affinity: bool
    taints: bool
    text: str = ""
    """The selector's, for caches."""

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
    constraints: Sequence[Constraint]
    counts: Spread
    weights: tuple[float, ...]
    ignored: frozenset[str]
    """Nodes that lack one of the labels."""


@dataclass(slots=True)
class MatchCounts:
    """How many pods on a node a selector means, kept as long as the node does not change."""

    known: dict[tuple[str, str], dict[str, tuple[NodeInfo, int, int]]] = field(default_factory=dict)

    def on(self, pod: PodInfo, constraint: Constraint, node: NodeInfo) -> int:
        key = (pod.namespace, constraint.text)
        by_node = self.known.get(key)
        if by_node is None:
            if len(self.known) >= MAX_SELECTORS:
                self.known.clear()
            by_node = self.known[key] = {}
        entry = by_node.get(node.name)
        if entry is not None and entry[0] is node and entry[1] == node.generation:
            return entry[2]
        matches = constraint.selector.matches
        found = sum(
            count
            for namespace, labels, count in node.label_groups.values()
            if namespace == pod.namespace and matches(labels)
        )
        by_node[node.name] = (node, node.generation, found)
        return found


class PodTopologySpread:
    name = "PodTopologySpread"

    def __init__(
        self,
        defaults: DefaultSpread | None = None,
        all_nodes: Callable[[], Sequence[NodeInfo]] | None = None,
    ) -> None:
        """``all_nodes``: of the cluster; scoring is only told of those where the pod fits."""
        self._defaults = defaults
        self._all_nodes = all_nodes
        self._matches = MatchCounts()
        self._tallies = Tallies()

    @classmethod
    def from_args(cls, handle: Handle, args: Mapping[str, Any]) -> PodTopologySpread:
        return cls(DefaultSpread.from_args(handle, args), handle.nodes)

    def _constraints(self, pod: PodInfo, *, soft_ones: bool) -> list[Constraint]:
        own = soft(pod) if soft_ones else hard(pod)
        if own or self._defaults is None or pod.obj["spec"].get("topologySpreadConstraints"):
            return own
        wanted = [c for c in self._defaults.constraints if _is_soft(c) == soft_ones]
        selector = self._defaults.selector(pod) if wanted else None
        if selector is None:
            return []
        return [_compile(pod.obj, c, selector) for c in wanted]

    # -- filter --------------------------------------------------------------------------

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        constraints = self._constraints(pod, soft_ones=False)
        if not constraints:
            return SKIP
        state[self.name] = self._count(pod, constraints, nodes)
        state[f"{self.name}/constraints"] = tuple(constraints)
        return None

    def _count(
        self,
        pod: PodInfo,
        constraints: Sequence[Constraint],
        nodes: Sequence[NodeInfo],
        *,
        lenient: bool = False,
    ) -> Spread:
        """Over the nodes that have all the labels (``lenient``: any) and are the constraint's
        business."""
        if not constraints or not isinstance(nodes, NodeList):
            return count(pod, constraints, nodes, self._matches, lenient=lenient)

        def make() -> DomainTally:
            return DomainTally(
                len(constraints),
                lambda node: contribution(pod, constraints, node, self._matches, lenient=lenient),
            )

        tally = self._tallies.of(_tally_key(pod, constraints, lenient=lenient), make)
        return Spread(tally.update(nodes))

    def label_rules(self, state: CycleState, pod: PodInfo) -> Iterable[LabelRule]:
        for constraint, counts in zip(
            state[f"{self.name}/constraints"], state[self.name], strict=True
        ):
            most = constraint.max_skew + least_count(constraint, counts)
            most -= constraint.selector.matches(pod.labels)
            full: set[str | None] = {value for value, n in counts.items() if n > most}
            yield LabelRule(constraint.key, full | {None}, allow=False)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        constraints = state[f"{self.name}/constraints"]
        for constraint, counts in zip(constraints, state[self.name], strict=True):
            value = node.labels.get(constraint.key)
            if value is None:
                return NO_LABEL
            least = least_count(constraint, counts)
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
        constraints = state.get(f"{self.name}/constraints", ())
        if self.name not in state or any(c.key not in node.labels for c in constraints):
            return
        for constraint, counts in zip(constraints, state[self.name], strict=True):
            if constraint.counts_node(pod, node) and constraint.counts_pod(pod, other):
                counts[node.labels[constraint.key]] += by

    # -- score ---------------------------------------------------------------------------

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        constraints = self._constraints(pod, soft_ones=True)
        if not constraints:
            return SKIP
        # The system's defaults mean nodes without zones, too.
        lenient = self._defaults is not None and self._defaults.system and not soft(pod)
        ignored = frozenset(
            node.name
            for node in nodes
            if not lenient and any(c.key not in node.labels for c in constraints)
        )
        left = [node for node in nodes if node.name not in ignored]
        weights = tuple(
            math.log((len(left) if c.key == HOSTNAME else domains(c.key, left)) + 2)
            for c in constraints
        )
        everywhere = nodes if self._all_nodes is None else self._all_nodes()
        # Pods of one node are counted when that node is scored.
        wide = [c for c in constraints if c.key != HOSTNAME]
        counted = iter(self._count(pod, wide, everywhere, lenient=lenient))
        counts = Spread(Counter() if c.key == HOSTNAME else next(counted) for c in constraints)
        state[f"{self.name}/scoring"] = Scoring(constraints, counts, weights, ignored)
        return None

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        scoring: Scoring = state[f"{self.name}/scoring"]
        if node.name in scoring.ignored:
            return -1
        total = 0.0
        for constraint, counts, weight in zip(
            scoring.constraints, scoring.counts, scoring.weights, strict=True
        ):
            value = node.labels.get(constraint.key)
            if value is None:
                continue
            here = (
                self._matches.on(pod, constraint, node)
                if constraint.key == HOSTNAME
                else counts[value]
            )
            total += here * weight + constraint.max_skew - 1
        return math.floor(total + 0.5)

    def score_all(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
        scoring: Scoring = state[f"{self.name}/scoring"]
        totals = [0.0] * len(nodes)
        for constraint, counts, weight in zip(
            scoring.constraints, scoring.counts, scoring.weights, strict=True
        ):
            key, skew = constraint.key, constraint.max_skew
            if key == HOSTNAME:
                on = self._matches.on
                for at, node in enumerate(nodes):
                    if key in node.labels:
                        totals[at] += on(pod, constraint, node) * weight + skew - 1
                continue
            worth = {value: n * weight + skew - 1 for value, n in counts.items()}
            for at, node in enumerate(nodes):
                value = node.labels.get(key)
                if value is not None:
                    # No pod was counted in a domain that is not there.
                    totals[at] += worth.get(value, skew - 1)
        ignored = scoring.ignored
        return [
            -1 if node.name in ignored else math.floor(total + 0.5)
            for node, total in zip(nodes, totals, strict=True)
        ]

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


def count(
    pod: PodInfo,
    constraints: Sequence[Constraint],
    nodes: Sequence[NodeInfo],
    matches: MatchCounts,
    *,
    lenient: bool = False,
) -> Spread:
    """``PodTopologySpread._count`` from scratch."""
    spread = Spread(Counter() for _ in constraints)
    for node in nodes if constraints else ():
        for at, value, found in contribution(pod, constraints, node, matches, lenient=lenient):
            spread[at][value] += found
    return spread


def contribution(
    pod: PodInfo,
    constraints: Sequence[Constraint],
    node: NodeInfo,
    matches: MatchCounts,
    *,
    lenient: bool,
) -> list[tuple[int, str, int]]:
    """(constraint, domain, pods) of one node."""
    if not lenient and any(c.key not in node.labels for c in constraints):
        return []
    # Nobody asks for the count of those without the label.
    return [
        (at, node.labels[constraint.key], matches.on(pod, constraint, node))
        for at, constraint in enumerate(constraints)
        if constraint.key in node.labels and constraint.counts_node(pod, node)
    ]


def least_count(constraint: Constraint, counts: Mapping[str, int]) -> int:
    """Of the domains; too few of them count as an empty one."""
    return 0 if len(counts) < constraint.min_domains else min(counts.values(), default=0)


def _tally_key(pod: PodInfo, constraints: Sequence[Constraint], *, lenient: bool) -> Hashable:
    """What ``contribution`` reads of pod and constraints."""
    return (
        pod.namespace,
        lenient,
        tuple((c.key, c.text, c.affinity, c.taints) for c in constraints),
        node_affinity_text(pod) if any(c.affinity for c in constraints) else "",
        repr(pod.tolerations) if any(c.taints for c in constraints) else "",
    )


def domains(key: str, nodes: Sequence[NodeInfo]) -> int:
    return len({node.labels.get(key, "") for node in nodes})


def _hard(pod: Obj) -> list[Constraint]:
    return [_compile(pod, c) for c in _constraints(pod) if not _is_soft(c)]


def _soft(pod: Obj) -> list[Constraint]:
    return [_compile(pod, c) for c in _constraints(pod) if _is_soft(c)]


def _constraints(pod: Obj) -> list[Obj]:
    return pod["spec"].get("topologySpreadConstraints") or []


def _is_soft(constraint: Obj) -> bool:
    return constraint.get("whenUnsatisfiable") == "ScheduleAnyway"


def _compile(pod: Obj, constraint: Obj, default: Selector | None = None) -> Constraint:
    """``default``: whom a default constraint, which has no selector, is about."""
    labels = pod["metadata"].get("labels") or {}
    selector = default or selector_from_label_selector(constraint.get("labelSelector"))
    more = [
        Requirement(key, "in", [labels[key]])
        for key in constraint.get("matchLabelKeys") or ()
        if key in labels
    ]
    selector = selector.add(*more) if more else selector
    return Constraint(
        constraint["topologyKey"],
        constraint.get("maxSkew", 1),
        constraint.get("minDomains") or 1,
        selector,
        constraint.get("nodeAffinityPolicy") != "Ignore",
        constraint.get("nodeTaintsPolicy") == "Honor",
        # A selector for nothing and one for everything look alike.
        f"{selector.nothing}/{selector}",
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
