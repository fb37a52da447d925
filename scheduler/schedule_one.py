"""One pod's scheduling cycle: which node, or why none. Pure: reads the cache, changes nothing.

The order is upstream's schedulePod: PreFilter, Filter over the nodes (starting where the last cycle
stopped, so that all nodes get their turn when not all are looked at), then PreScore, Score and a
random choice among the best.

Of a cache's list of nodes (``NodeList``) only what changed is asked about (``framework.columns``);
any other list of nodes gets the same answers from every plugin for every node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import NodeList
from pilothouse.scheduler.extender import Extender, ExtenderError
from pilothouse.scheduler.framework.columns import Columns, Kinds, Others, pick
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Diagnosis, Framework
from pilothouse.scheduler.queueing.nominator import Nominator

MIN_FEASIBLE_NODES = 100
MIN_PERCENTAGE = 5
NOT_ALLOWED = Status(
    Code.UNRESOLVABLE, ("node(s) didn't satisfy plugin(s) [NodeAffinity]",), "NodeAffinity"
)
"""For nodes that a PreFilter has ruled out by name."""


@dataclass(slots=True)
class Decision:
    """``node`` is empty when the pod fits nowhere; ``diagnosis`` then says why."""

    node: str
    diagnosis: Diagnosis
    state: CycleState
    feasible: Sequence[NodeInfo] = ()
    scores: dict[str, list[int]] = field(default_factory=dict)
    """By plugin, in the order of ``feasible`` (empty when only one node was feasible, or when they
    were only added up)."""
    totals: list[int] = field(default_factory=list)
    """Of all scores; what all nodes have in common may be left out."""


class SchedulingAlgorithm:
    """Holds only where the next cycle starts among the nodes, and the random source."""

    def __init__(
        self,
        framework: Framework,
        random: Random,
        nominator: Nominator,
        percentage_of_nodes_to_score: int = 0,
    ) -> None:
        self._framework = framework
        self._random = random
        self._nominator = nominator
        self._percentage = percentage_of_nodes_to_score
        self._next_start = 0
        self._kinds = Kinds(framework)

    def schedule(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Decision:
        state = CycleState()
        diagnosis = Diagnosis(len(nodes))
        feasible, columns = self._find_feasible(state, pod, nodes, diagnosis)
        if columns is None or len(feasible) < 2:
            return self._choose(state, pod, diagnosis, feasible)
        totals = self._kinds.totals(columns, state, pod, feasible)
        return self._best(state, diagnosis, feasible, totals)

    async def schedule_extended(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], extenders: Sequence[Extender]
    ) -> Decision:
        """As ``schedule``, with the extenders' verdicts and scores.

        :raises ExtenderError: one that is not ignorable failed.
        """
        state = CycleState()
        diagnosis = Diagnosis(len(nodes))
        feasible: Sequence[NodeInfo]
        feasible, _ = self._find_feasible(state, pod, nodes, diagnosis)
        extra: dict[str, int] = {}
        for extender in extenders:
            if not feasible:
                break
            try:
                feasible, refused = await extender.filter(pod, feasible)
            except ExtenderError:
                if not extender.config.ignorable:
                    raise
                continue
            diagnosis.statuses |= refused
            diagnosis.plugins.update(status.plugin for status in refused.values())
        if len(feasible) > 1:
            for extender in extenders:
                extra = add_scores(extra, await self._priorities(extender, pod, feasible))
        return self._choose(state, pod, diagnosis, feasible, extra)

    @staticmethod
    async def _priorities(
        extender: Extender, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> dict[str, int]:
        """One that can't be asked has no opinion (as upstream)."""
        try:
            return await extender.prioritize(pod, nodes)
        except ExtenderError:
            return {}

    def _choose(
        self,
        state: CycleState,
        pod: PodInfo,
        diagnosis: Diagnosis,
        feasible: Sequence[NodeInfo],
        extra: Mapping[str, int] | None = None,
    ) -> Decision:
        if not feasible:
            return Decision("", diagnosis, state)
        names = [node.name for node in feasible]
        if len(feasible) == 1:
            return Decision(names[0], diagnosis, state, feasible)
        scores = self._framework.run_scores(state, pod, feasible)
        if extra:
            scores["extenders"] = [extra.get(name, 0) for name in names]
        totals = [sum(column) for column in zip(*scores.values(), strict=True)] or [0] * len(names)
        decision = self._best(state, diagnosis, feasible, totals)
        decision.scores = scores
        return decision

    def _best(
        self,
        state: CycleState,
        diagnosis: Diagnosis,
        feasible: Sequence[NodeInfo],
        totals: list[int],
    ) -> Decision:
        best = max(totals)
        candidates = [at for at, total in enumerate(totals) if total == best]
        chosen = feasible[self._random.choice(candidates)].name
        return Decision(chosen, diagnosis, state, feasible, totals=totals)

    def _find_feasible(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis
    ) -> tuple[list[NodeInfo], Columns | None]:
        """With the columns that were used, if they were."""
        if not nodes:
            return [], None
        allowed = self._framework.run_pre_filters(state, pod, nodes, diagnosis)
        if isinstance(allowed, Status):
            diagnosis.statuses = {node.name: allowed for node in nodes}
            return [], None
        nominated = pod.nominated_node_name
        if nominated:
            for node in nodes:
                if node.name == nominated and (allowed is None or nominated in allowed):
                    if self.passes(state, pod, node) is None:
                        return [node], None
        if allowed is not None:
            for node in nodes:
                if node.name not in allowed:
                    diagnosis.statuses[node.name] = NOT_ALLOWED
            nodes = [node for node in nodes if node.name in allowed]
        if isinstance(nodes, NodeList):
            return self._filter_columns(state, pod, nodes, diagnosis)
        return self._filter(state, pod, nodes, diagnosis), None

    def _filter_columns(
        self, state: CycleState, pod: PodInfo, nodes: NodeList, diagnosis: Diagnosis
    ) -> tuple[list[NodeInfo], Columns]:
        count = len(nodes)
        start = self._next_start % count
        wanted = self.feasible_nodes_to_find(count)
        special = {
            node.index: lambda node: self.passes(state, pod, node)
            for node in map(nodes.find, self._nominator.nodes())
            if node is not None and self._heeded(pod, node)
        }
        others = self._kinds.others(state, pod, special)
        columns = self._kinds.columns(pod, others, nodes)
        if others.none:
            found, seen = columns.first_that_fit(state, pod, nodes, start, wanted)
        else:
            found, seen = columns.first_that_pass(state, pod, nodes, start, wanted, others)
        self._next_start = (start + seen) % count
        if not found:
            for node in (*nodes[start:], *nodes[:start]):
                status = self._refusal(state, pod, node, columns, others)
                diagnosis.statuses[node.name] = status
                diagnosis.plugins.add(status.plugin)
        return pick(nodes, found), columns

    @staticmethod
    def _refusal(
        state: CycleState, pod: PodInfo, node: NodeInfo, columns: Columns, others: Others
    ) -> Status:
        if node.index in others.special:
            status = others.special[node.index](node)
        else:
            local = columns.verdict(state, pod, node)
            status = others.first_refusal(state, pod, node, local)
        assert status is not None, f"{node.name} was refused a moment ago"
        return status

    def _filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis
    ) -> list[NodeInfo]:
        count = len(nodes)
        if not count:
            return []
        wanted = self.feasible_nodes_to_find(count)
        start = self._next_start % count
        feasible: list[NodeInfo] = []
        looked_at = 0
        for i in range(count):
            node = nodes[(start + i) % count]
            looked_at += 1
            status = self.passes(state, pod, node)
            if status is None:
                feasible.append(node)
                if len(feasible) == wanted:
                    break
            else:
                diagnosis.statuses[node.name] = status
                diagnosis.plugins.add(status.plugin)
        self._next_start = (start + looked_at) % count
        return feasible

    def passes(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        """Filters with the pods of at least this priority that are nominated to the node counted
        as running there, and without them (RunFilterPluginsWithNominatedPods)."""
        nominated = self._heeded(pod, node)
        if nominated:
            with_them, their_state = node.copy(), state.copy()
            for other in nominated:
                self._framework.add_pod(their_state, pod, other, with_them)
            status = self._framework.run_filters(their_state, pod, with_them)
            if status is not None:
                return status
        return self._framework.run_filters(state, pod, node)

    def _heeded(self, pod: PodInfo, node: NodeInfo) -> list[PodInfo]:
        """Pods nominated to the node that ``pod`` must leave room for."""
        return [
            other
            for other in self._nominator.on_node(node.name)
            if other.priority >= pod.priority and other.uid != pod.uid
        ]

    def feasible_nodes_to_find(self, count: int) -> int:
        """At least 100; of large clusters a share that falls from 50 % to 5 %."""
        if count < MIN_FEASIBLE_NODES:
            return count
        percentage = self._percentage or max(50 - count // 125, MIN_PERCENTAGE)
        return max(min(count * percentage // 100, count), MIN_FEASIBLE_NODES)


def add_scores(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
