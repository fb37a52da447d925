"""InterPodAffinity: pods that must, must not or would like to be near other pods
(pkg/scheduler/framework/plugins/interpodaffinity)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.scheduler.cache.domain_tally import Contribution, DomainTally, Tallies
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import NodeList
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
    LabelRule,
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
        namespaces_version: Callable[[], int] = lambda: 0,
    ) -> None:
        """``all_nodes``: of the cluster; scoring is only told of those where the pod fits.
        ``namespaces_version``: another number whenever ``namespace_labels`` may have changed."""
        self._namespace_labels = namespace_labels
        self._hard_weight = hard_weight
        self._ignore_preferred = ignore_preferred_of_others
        self._all_nodes = all_nodes
        self._namespaces_version = namespaces_version
        self._filter_tallies = Tallies()
        self._score_tallies = Tallies()

    # -- filter --------------------------------------------------------------------------

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        terms = pod_terms(pod)
        own = bool(terms.affinity or terms.anti_affinity)
        if isinstance(nodes, NodeList):
            if not own and not nodes.changes.with_affinity:
                return SKIP
            tally = self._filter_tallies.of(
                self._tally_key(pod), lambda: DomainTally(3, lambda n: self._share(pod, n))
            )
            counts = Counts(*tally.update(nodes))
        else:
            counts = Counts()
            for node in nodes:
                self._count_node(counts, pod, node)
        if not own and not counts.existing:
            return SKIP
        state[self.name] = counts
        return None

    def _count_node(self, counts: Counts, pod: PodInfo, node: NodeInfo) -> None:
        terms = pod_terms(pod)
        own = terms.affinity or terms.anti_affinity
        # Without terms of its own only pods that have some can be in the pod's way.
        for other in node.pods.values() if own else node.affinity_pods.values():
            self._count(counts, pod, other, node, 1)

    def _share(self, pod: PodInfo, node: NodeInfo) -> Contribution:
        """One node's part of the counts."""
        counts = Counts()
        self._count_node(counts, pod, node)
        for at, counter in enumerate((counts.affinity, counts.anti_affinity, counts.existing)):
            for domain, found in counter.items():
                yield at, domain, found

    def _tally_key(self, pod: PodInfo) -> Hashable:
        """What counting reads of the pod and of the namespaces."""
        affinity = pod.obj["spec"].get("affinity") or {}
        terms = (affinity.get("podAffinity"), affinity.get("podAntiAffinity"))
        return (
            pod.namespace,
            tuple(sorted(pod.labels.items())),
            repr(terms),
            self._namespaces_version(),
        )

    def label_rules(self, state: CycleState, pod: PodInfo) -> Iterable[LabelRule]:
        counts: Counts = state[self.name]
        terms = pod_terms(pod)
        if terms.affinity:
            near = _by_key(counts.affinity)
            alone = not near and all(self._means(term, pod) for term in terms.affinity)
            for term in terms.affinity:
                if alone:
                    yield LabelRule(term.topology_key, (None,), allow=False)
                else:
                    yield LabelRule(term.topology_key, near.get(term.topology_key, ()), allow=True)
        if terms.anti_affinity:
            away = _by_key(counts.anti_affinity)
            for key in {term.topology_key for term in terms.anti_affinity} & away.keys():
                yield LabelRule(key, away[key], allow=False)
        for key, values in _by_key(counts.existing).items():
            yield LabelRule(key, values, allow=False)

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
        if self._ignore_preferred and not preferred:
            return SKIP
        everywhere = nodes if self._all_nodes is None else self._all_nodes()
        scores: Counter[Domain] = Counter()
        if not isinstance(everywhere, NodeList):
            for node in everywhere:
                self._weigh(scores, pod, node)
        elif preferred or everywhere.changes.with_affinity:
            tally = self._score_tallies.of(
                self._tally_key(pod), lambda: DomainTally(1, lambda n: self._weights(pod, n))
            )
            (scores,) = tally.update(everywhere)
        if not scores:
            return SKIP
        state[f"{self.name}/scores"] = scores
        return None

    def _weigh(self, scores: Counter[Domain], pod: PodInfo, node: NodeInfo) -> None:
        preferred = pod_terms(pod).preferred
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

    def _weights(self, pod: PodInfo, node: NodeInfo) -> Contribution:
        scores: Counter[Domain] = Counter()
        self._weigh(scores, pod, node)
        return [(0, domain, weight) for domain, weight in scores.items()]

    def score_all(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
        by_key: dict[str, dict[str, int]] = {}
        for (key, value), weight in state[f"{self.name}/scores"].items():
            by_key.setdefault(key, {})[value] = weight
        totals = [0] * len(nodes)
        for key, weights in by_key.items():
            for at, node in enumerate(nodes):
                totals[at] += weights.get(node.labels.get(key, ""), 0) if key in node.labels else 0
        return totals

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


def _by_key(counter: Counter[Domain]) -> dict[str, set[str]]:
    """The values with pods, by label."""
    found: dict[str, set[str]] = {}
    for (key, value), pods in counter.items():
        if pods > 0:
            found.setdefault(key, set()).add(value)
    return found


def _add(counter: Counter[Domain], term: AffinityTerm, node: NodeInfo, by: int) -> None:
    value = node.labels.get(term.topology_key)
    if value is not None:
        counter[term.topology_key, value] += by
