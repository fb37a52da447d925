"""NodeResourcesBalancedAllocation: prefers nodes whose cpu and memory use the pod evens out."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.interfaces import MAX_NODE_SCORE, SKIP, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo

RESOURCES = ("cpu", "memory")


class BalancedAllocation:
    name = "NodeResourcesBalancedAllocation"

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        return None if any(pod.requests.get(r) for r in RESOURCES) else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """50 to 100: 75 when the pod changes nothing, more when it balances."""
        capacities = [node.allocatable.get(r, 0) for r in RESOURCES]
        before = [node.requested.get(r, 0) for r in RESOURCES]
        after = [b + pod.requests.get(r, 0) for b, r in zip(before, RESOURCES, strict=True)]
        half = MAX_NODE_SCORE // 2
        # Integer division of Go truncates toward zero; the sum is never negative here.
        return half + (half + _balance(after, capacities) - _balance(before, capacities)) // 2


def _balance(used: list[int], capacities: list[int]) -> int:
    fractions = [min(u / c, 1.0) for u, c in zip(used, capacities, strict=True) if c]
    deviation = abs(fractions[0] - fractions[1]) / 2 if len(fractions) == 2 else 0.0
    return int((1 - deviation) * MAX_NODE_SCORE)
