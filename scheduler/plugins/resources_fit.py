"""NodeResourcesFit: what the pod requests must be left on the node; scores by one of three
strategies (``LeastAllocated``, ``MostAllocated``, ``RequestedToCapacityRatio``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import name_of
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import MAX_NODE_SCORE, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo, Requests, integer_requests
from pilothouse.scheduler.plugins.extended_resources import (
    IMPLICIT,
    ExtendedClasses,
    shared_classes,
)

if TYPE_CHECKING:
    from pilothouse.scheduler.framework.handle import Handle

Score = Callable[[int, int], int]
"""(requested, capacity) -> 0..100"""
MAX_RATIO_SCORE = 10
TOO_MANY_PODS = "Too many pods"
DEFAULT_PODS = 110


class ResourcesFit:
    name = "NodeResourcesFit"

    def __init__(
        self,
        resources: Sequence[tuple[str, int]] = (("cpu", 1), ("memory", 1)),
        strategy: Score | None = None,
        ignored: frozenset[str] = frozenset(),
        ignored_groups: frozenset[str] = frozenset(),
        devices: ExtendedClasses | None = None,
    ) -> None:
        """``devices``: what extended resources devices may stand behind (those that a node does
        not have itself are for DynamicResources to find). ``resources``: what is scored, with
        weights. ``ignored``: extended resources (by name, or by the group before the slash) that
        don't have to be there."""
        self._resources = tuple(resources)
        self._strategy = strategy or least_allocated
        self._plain = strategy is None and self._resources == (("cpu", 1), ("memory", 1))
        self._ignored = ignored
        self._ignored_groups = ignored_groups
        self._devices = devices

    @classmethod
    def from_args(cls, args: Mapping[str, Any], handle: Handle | None = None) -> ResourcesFit:
        """From NodeResourcesFitArgs. :raises ValueError: an unknown strategy."""
        chosen = args.get("scoringStrategy") or {}
        resources = [(r["name"], r.get("weight") or 1) for r in chosen.get("resources") or ()]
        return cls(
            resources or (("cpu", 1), ("memory", 1)),
            _strategy(chosen),
            frozenset(args.get("ignoredResources") or ()),
            frozenset(args.get("ignoredResourceGroups") or ()),
            None if handle is None else shared_classes(handle),
        )

    def _as_devices(self, pod: PodInfo) -> tuple[str, ...]:
        return () if self._devices is None else self._devices.behind(pod.requests)

    def _is_ignored(self, resource: str) -> bool:
        if not self._ignored and not self._ignored_groups:
            return False
        group, slash, _ = resource.partition("/")
        return resource in self._ignored or bool(slash and group in self._ignored_groups)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        reasons: list[str] = []
        resolvable = True
        allocatable, requested = node.allocatable, node.requested
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append(TOO_MANY_PODS)
        for resource, amount in pod.requests.items():
            if amount == 0 or self._is_ignored(resource):
                continue
            capacity = allocatable.get(resource, 0)
            if not capacity and resource in self._as_devices(pod):
                continue
            if amount > capacity - requested.get(resource, 0):
                reasons.append(f"Insufficient {resource}")
                resolvable = resolvable and amount <= capacity
        if not reasons:
            return None
        code = Code.UNSCHEDULABLE if resolvable else Code.UNRESOLVABLE
        return Status(code, tuple(reasons))

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        if not self._plain:
            return self._weighted(pod, node)
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

    def _weighted(self, pod: PodInfo, node: NodeInfo) -> int:
        """The weighted mean over the resources that the node has."""
        total = weights = 0
        for resource, weight in self._resources:
            capacity = node.allocatable.get(resource, 0)
            if resource == "cpu":
                used = node.non_zero_cpu + pod.non_zero_cpu
            elif resource == "memory":
                used = node.non_zero_memory + pod.non_zero_memory
            elif not pod.requests.get(resource):
                continue
            else:
                used = node.requested.get(resource, 0) + pod.requests[resource]
            if capacity:
                total += self._strategy(used, capacity) * weight
                weights += weight
        return total // weights if weights else 0

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return (
            tuple(pod.requests.items()), pod.non_zero_cpu, pod.non_zero_memory,
            self._as_devices(pod),
        )  # fmt: skip

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration(
                "AssignedPod", Action.DELETE | Action.UPDATE_POD_SCALE_DOWN, _pod_freed
            ),
            EventRegistration("Pod", Action.UPDATE_POD_SCALE_DOWN),
            EventRegistration(
                "Node", Action.ADD | Action.UPDATE_NODE_ALLOCATABLE, self._node_changed
            ),
            EventRegistration("DeviceClass", Action.ADD | Action.UPDATE, _class_changed),
        )

    def _node_changed(self, pod: PodInfo, old: Any, new: Any) -> bool:
        node = NodeInfo("")
        node.set_node(new)
        as_devices = self._as_devices(pod)
        if not _fits_empty(pod.requests, node, as_devices):
            return False
        if old is None:
            return True
        before = NodeInfo("")
        before.set_node(old)
        grown = [r for r, n in node.allocatable.items() if n > before.allocatable.get(r, 0)]
        return "pods" in grown or any(pod.requests.get(r) for r in (*grown, *as_devices))


def least_allocated(requested: int, capacity: int) -> int:
    if requested > capacity:
        return 0
    return (capacity - requested) * MAX_NODE_SCORE // capacity


def most_allocated(requested: int, capacity: int) -> int:
    return min(requested, capacity) * MAX_NODE_SCORE // capacity


def capacity_ratio(shape: Sequence[tuple[int, int]]) -> Score:
    """Linear between the points (utilization in percent, score 0..100)."""
    points = sorted(shape)

    def score(requested: int, capacity: int) -> int:
        used = 100 if requested > capacity else requested * 100 // capacity
        if used <= points[0][0]:
            return points[0][1]
        for (x0, y0), (x1, y1) in pairwise(points):
            if used <= x1:
                return y0 + int((y1 - y0) * (used - x0) / (x1 - x0))
        return points[-1][1]

    return score


def _strategy(chosen: Mapping[str, Any]) -> Score | None:
    """None: the default one."""
    kind = chosen.get("type") or "LeastAllocated"
    if kind == "LeastAllocated":
        return None
    if kind == "MostAllocated":
        return most_allocated
    if kind == "RequestedToCapacityRatio":
        shape = (chosen.get("requestedToCapacityRatio") or {}).get("shape") or ()
        if not shape:
            raise ValueError("at least one point must be specified")
        scale = MAX_NODE_SCORE // MAX_RATIO_SCORE
        return capacity_ratio([(p.get("utilization", 0), p.get("score", 0) * scale) for p in shape])
    raise ValueError(f"scoring strategy {kind} is not supported")


def _pod_freed(pod: PodInfo, old: Any, new: Any) -> bool:
    """A pod that ended frees a place at least; one that shrank must free what is asked for."""
    if new is None:
        return True
    before, after = integer_requests(old), integer_requests(new)
    return any(before.get(r, 0) > after.get(r, 0) for r, amount in pod.requests.items() if amount)


def _class_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    name = (new.get("spec") or {}).get("extendedResourceName")
    if old is None and IMPLICIT + name_of(new) in pod.requests:
        return True
    same = old is not None and (old.get("spec") or {}).get("extendedResourceName") == name
    return not same and name in pod.requests


def _fits_empty(requests: Requests, node: NodeInfo, as_devices: Collection[str]) -> bool:
    allocatable = node.allocatable
    return allocatable.get("pods", 0) >= 1 and all(
        amount <= allocatable.get(resource, 0)
        for resource, amount in requests.items()
        if allocatable.get(resource) or resource not in as_devices
    )


def total_requests(pods: Sequence[PodInfo]) -> Requests:
    """The sum over ``pods``."""
    total: Requests = {}
    for pod in pods:
        for resource, amount in pod.requests.items():
            total[resource] = total.get(resource, 0) + amount
    return total
