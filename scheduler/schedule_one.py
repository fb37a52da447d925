"""One pod's scheduling cycle: which node, or why none. Pure: reads the cache, changes nothing.

The order is upstream's schedulePod: PreFilter, Filter over the nodes (starting where the last cycle
stopped, so that all nodes get their turn when not all are looked at), then PreScore, Score and a
random choice among the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.extender import Extender, ExtenderError
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
    feasible: list[str] = field(default_factory=list)
    scores: dict[str, list[int]] = field(default_factory=dict)
    """By plugin, in the order of ``feasible`` (empty when only one node was feasible)."""


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

    def schedule(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Decision:
        state = CycleState()
        diagnosis = Diagnosis(len(nodes))
        feasible = self._find_feasible(state, pod, nodes, diagnosis) if nodes else []
        return self._choose(state, pod, diagnosis, feasible)

    async def schedule_extended(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], extenders: Sequence[Extender]
    ) -> Decision:
        """As ``schedule``, with the extenders' verdicts and scores.

        :raises ExtenderError: one that is not ignorable failed.
        """
        state = CycleState()
        diagnosis = Diagnosis(len(nodes))
        feasible = self._find_feasible(state, pod, nodes, diagnosis) if nodes else []
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
            return Decision(names[0], diagnosis, state, names)
        scores = self._framework.run_scores(state, pod, feasible)
        if extra:
            scores["extenders"] = [extra.get(name, 0) for name in names]
        totals = [sum(column) for column in zip(*scores.values(), strict=True)] or [0] * len(names)
        best = max(totals)
        candidates = [name for name, total in zip(names, totals, strict=True) if total == best]
        return Decision(self._random.choice(candidates), diagnosis, state, names, scores)

    def _find_feasible(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis
    ) -> list[NodeInfo]:
        allowed = self._framework.run_pre_filters(state, pod, nodes, diagnosis)
        if isinstance(allowed, Status):
            diagnosis.statuses = {node.name: allowed for node in nodes}
            return []
        nominated = pod.nominated_node_name
        if nominated:
            for node in nodes:
                if node.name == nominated and (allowed is None or nominated in allowed):
                    if self.passes(state, pod, node) is None:
                        return [node]
        if allowed is not None:
            for node in nodes:
                if node.name not in allowed:
                    diagnosis.statuses[node.name] = NOT_ALLOWED
            nodes = [node for node in nodes if node.name in allowed]
        return self._filter(state, pod, nodes, diagnosis)

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
        nominated = [
            other
            for other in self._nominator.on_node(node.name)
            if other.priority >= pod.priority and other.uid != pod.uid
        ]
        if nominated:
            with_them, their_state = node.copy(), state.copy()
            for other in nominated:
                self._framework.add_pod(their_state, pod, other, with_them)
            status = self._framework.run_filters(their_state, pod, with_them)
            if status is not None:
                return status
        return self._framework.run_filters(state, pod, node)

    def feasible_nodes_to_find(self, count: int) -> int:
        """At least 100; of large clusters a share that falls from 50 % to 5 %."""
        if count < MIN_FEASIBLE_NODES:
            return count
        percentage = self._percentage or max(50 - count // 125, MIN_PERCENTAGE)
        return max(min(count * percentage // 100, count), MIN_FEASIBLE_NODES)


def add_scores(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
