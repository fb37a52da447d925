"""InterPodAffinity: pods that must, must not or would like to be near other pods
(pkg/scheduler/framework/plugins/interpodaffinity)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.affinity_terms import (
    AffinityTerm,
    NamespaceLabels,
    has_pod_affinity,
    pod_terms,
)
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import (
    MAX_NODE_SCORE,
    SKIP,
    Code,
    CycleState,
    Status,
)
from pilothouse.scheduler.framework.pod_info import PodInfo

AFFINITY = Status(Code.UNRESOLVABLE, ("node(s) didn't match pod affinity rules",))
ANTI_AFFINITY = Status(Code.UNSCHEDULABLE, ("node(s) didn't match pod anti-affinity rules",))
EXISTING = Status(Code.UNSCHEDULABLE, ("node(s) didn't satisfy existing pods anti-affinity rules",))
HARD_AFFINITY_WEIGHT = 1
"""What a required term of a running pod is worth to a pod that it means (upstream's default)."""

Domain = tuple[str, str]
"""(node label, value)"""


@dataclass(slots=True)
class Counts:
    """Pods by domain: that match all of the pod's affinity terms, one of its anti-affinity terms,
    or that want the pod away."""

    affinity: Counter[Domain] = field(default_factory=Counter)
    anti_affinity: Counter[Domain] = field(default_factory=Counter)
    existing: Counter[Domain] = field(default_factory=Counter)

    def copy(self) -> Counts:
        return Counts(Counter(self.affinity), Counter(self.anti_affinity), Counter(self.existing))


class InterPodAffinity:
    name = "InterPodAffinity"

    def __init__(
        self,
        namespace_labels: NamespaceLabels,
        hard_weight: int = HARD_AFFINITY_WEIGHT,
        ignore_preferred_of_others: bool = False,
        all_nodes: Callable[[], Sequence[NodeInfo]] | None = None,
    ) -> None:
        """``all_nodes``: of the cluster; scoring is only told of those where the pod fits."""
        self._namespace_labels = namespace_labels
        self._hard_weight = hard_weight
        self._ignore_preferred = ignore_preferred_of_others
        self._all_nodes = all_nodes

    # -- filter --------------------------------------------------------------------------

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        terms = pod_terms(pod)
        own = bool(terms.affinity or terms.anti_affinity)
        counts = Counts()
        for node in nodes:
            # Without terms of its own only pods that have some can be in the pod's way.
            for other in node.pods.values() if own else node.affinity_pods.values():
                self._count(counts, pod, other, node, 1)
        if not own and not counts.existing:
            return SKIP
        state[self.name] = counts
        return None

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._change(state, pod, other, node, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._change(state, pod, other, node, -1)

    def _change(
        self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo, by: int
    ) -> None:
        counts = state.get(self.name)
        if isinstance(counts, Counts):
            self._count(counts, pod, other, node, by)

    def _count(self, counts: Counts, pod: PodInfo, other: PodInfo, node: NodeInfo, by: int) -> None:
        terms = pod_terms(pod)
        if terms.affinity and all(self._means(term, other) for term in terms.affinity):
            for term in terms.affinity:
                _add(counts.affinity, term, node, by)
        for term in terms.anti_affinity:
            if self._means(term, other):
                _add(counts.anti_affinity, term, node, by)
        if has_pod_affinity(other.obj):
            for term in pod_terms(other).anti_affinity:
                if self._means(term, pod):
                    _add(counts.existing, term, node, by)

    def _means(self, term: AffinityTerm, pod: PodInfo) -> bool:
        return term.matches(pod, self._namespace_labels)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        counts: Counts = state[self.name]
        if not self._near(counts, pod, node):
            return AFFINITY
        for term in pod_terms(pod).anti_affinity:
            value = node.labels.get(term.topology_key)
            if value is not None and counts.anti_affinity[term.topology_key, value] > 0:
                return ANTI_AFFINITY
        if counts.existing and any(counts.existing[label] > 0 for label in node.labels.items()):
            return EXISTING
        return None

    def _near(self, counts: Counts, pod: PodInfo, node: NodeInfo) -> bool:
        terms = pod_terms(pod).affinity
        found = True
        for term in terms:
            value = node.labels.get(term.topology_key)
            if value is None:
                return False
            found = found and counts.affinity[term.topology_key, value] > 0
        # The first of a group that wants to be together may go anywhere.
        return found or (
            not any(n > 0 for n in counts.affinity.values())
            and all(self._means(term, pod) for term in terms)
        )

    # -- score ---------------------------------------------------------------------------

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        preferred = pod_terms(pod).preferred
        scores: Counter[Domain] = Counter()
        if self._ignore_preferred and not preferred:
            return SKIP
        for node in nodes if self._all_nodes is None else self._all_nodes():
            for other in node.pods.values() if preferred else node.affinity_pods.values():
                for weight, term in preferred:
                    if self._means(term, other):
                        _add(scores, term, node, weight)
                if has_pod_affinity(other.obj):
                    theirs = pod_terms(other)
                    for term in theirs.affinity if self._hard_weight else ():
                        if self._means(term, pod):
                            _add(scores, term, node, self._hard_weight)
                    for weight, term in theirs.preferred:
                        if self._means(term, pod):
                            _add(scores, term, node, weight)
        if not scores:
            return SKIP
        state[f"{self.name}/scores"] = scores
        return None

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        scores: Counter[Domain] = state[f"{self.name}/scores"]
        return sum(scores[label] for label in node.labels.items())

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int]) -> None:
        least, span = min(scores), max(scores) - min(scores)
        for i, score in enumerate(scores):
            scores[i] = MAX_NODE_SCORE * (score - least) // span if span else 0

    # -- queueing ------------------------------------------------------------------------

    def events_to_register(self) -> Iterable[EventRegistration]:
        pods = Action.ADD | Action.DELETE | Action.UPDATE_POD_LABEL
        return (
            EventRegistration("AssignedPod", pods, self._pod_changed),
            EventRegistration("Pod", Action.UPDATE_POD_LABEL),
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_LABEL),
        )

    def _pod_changed(self, pod: PodInfo, old: Any, new: Any) -> bool:
        """Only pods that one side's terms mean can make a difference."""
        terms = pod_terms(pod)
        for obj in (old, new):
            if obj is None:
                continue
            other = PodInfo(obj)
            if any(self._means(t, other) for t in (*terms.affinity, *terms.anti_affinity)):
                return True
            if any(self._means(t, pod) for t in pod_terms(other).anti_affinity):
                return True
        return False


def _add(counter: Counter[Domain], term: AffinityTerm, node: NodeInfo, by: int) -> None:
    value = node.labels.get(term.topology_key)
    if value is not None:
        counter[term.topology_key, value] += by
