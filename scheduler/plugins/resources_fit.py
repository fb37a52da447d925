"""NodeResourcesFit: what the pod requests must be left on the node; scores the least allocated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import MAX_NODE_SCORE, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo, Requests, integer_requests

TOO_MANY_PODS = "Too many pods"
DEFAULT_PODS = 110


class ResourcesFit:
    name = "NodeResourcesFit"

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        reasons: list[str] = []
        resolvable = True
        allocatable, requested = node.allocatable, node.requested
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append(TOO_MANY_PODS)
        for resource, amount in pod.requests.items():
            if amount == 0:
                continue
            capacity = allocatable.get(resource, 0)
            if amount > capacity - requested.get(resource, 0):
                reasons.append(f"Insufficient {resource}")
                resolvable = resolvable and amount <= capacity
        if not reasons:
            return None
        code = Code.UNSCHEDULABLE if resolvable else Code.UNRESOLVABLE
        return Status(code, tuple(reasons))

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """LeastAllocated over cpu and memory, weight one each."""
        total = weight = 0
        for capacity, used in (
            (node.allocatable.get("cpu", 0), node.non_zero_cpu + pod.non_zero_cpu),
            (node.allocatable.get("memory", 0), node.non_zero_memory + pod.non_zero_memory),
        ):
            if capacity:
                weight += 1
                if used <= capacity:
                    total += (capacity - used) * MAX_NODE_SCORE // capacity
        return total // weight if weight else 0

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration(
                "AssignedPod", Action.DELETE | Action.UPDATE_POD_SCALE_DOWN, _pod_freed
            ),
            EventRegistration("Pod", Action.UPDATE_POD_SCALE_DOWN),
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_ALLOCATABLE, _node_changed),
        )


def _pod_freed(pod: PodInfo, old: Any, new: Any) -> bool:
    """A pod that ended frees a place at least; one that shrank must free what is asked for."""
    if new is None:
        return True
    before, after = integer_requests(old), integer_requests(new)
    return any(before.get(r, 0) > after.get(r, 0) for r, amount in pod.requests.items() if amount)


def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    node = NodeInfo("")
    node.set_node(new)
    if not _fits_empty(pod.requests, node):
        return False
    if old is None:
        return True
    before = NodeInfo("")
    before.set_node(old)
    grown = [r for r, n in node.allocatable.items() if n > before.allocatable.get(r, 0)]
    return "pods" in grown or any(pod.requests.get(r) for r in grown)


def _fits_empty(requests: Requests, node: NodeInfo) -> bool:
    return node.allocatable.get("pods", 0) >= 1 and all(
        amount <= node.allocatable.get(resource, 0) for resource, amount in requests.items()
    )


def total_requests(pods: Sequence[PodInfo]) -> Requests:
    """The sum over ``pods``."""
    total: Requests = {}
    for pod in pods:
        for resource, amount in pod.requests.items():
            total[resource] = total.get(resource, 0) + amount
    return total
