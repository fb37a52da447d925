"""NodeResourcesBalancedAllocation: prefers nodes whose use of resources the pod evens out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.interfaces import MAX_NODE_SCORE, SKIP, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo

RESOURCES = ("cpu", "memory")


class BalancedAllocation:
    name = "NodeResourcesBalancedAllocation"

    def __init__(self, resources: Sequence[str] = RESOURCES) -> None:
        self._resources = tuple(resources)

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> BalancedAllocation:
        return cls([r["name"] for r in args.get("resources") or ()] or RESOURCES)

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return tuple(pod.requests.items())

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        return None if any(pod.requests.get(r) for r in self._resources) else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """50 to 100: 75 when the pod changes nothing, more when it balances."""
        resources = [r for r in self._resources if r in RESOURCES or pod.requests.get(r)]
        capacities = [node.allocatable.get(r, 0) for r in resources]
        before = [node.requested.get(r, 0) for r in resources]
        after = [b + pod.requests.get(r, 0) for b, r in zip(before, resources, strict=True)]
        half = MAX_NODE_SCORE // 2
        # Integer division of Go truncates toward zero; the sum is never negative here.
        return half + (half + _balance(after, capacities) - _balance(before, capacities)) // 2


def _balance(used: list[int], capacities: list[int]) -> int:
    fractions = [min(u / c, 1.0) for u, c in zip(used, capacities, strict=True) if c]
    if len(fractions) == 2:
        deviation = abs(fractions[0] - fractions[1]) / 2
    elif len(fractions) > 2:
        mean = sum(fractions) / len(fractions)
        deviation = (sum((f - mean) ** 2 for f in fractions) / len(fractions)) ** 0.5
    else:
        deviation = 0.0
    return int((1 - deviation) * MAX_NODE_SCORE)
