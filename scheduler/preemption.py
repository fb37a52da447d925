"""Preemption, the pure part: which pods of lower priority would have to go, and where best.

A what-if on copies of nodes: take all pods of lower priority away; if the pod then fits, put them
back one by one, the most important first, and keep out only those with which it would not fit.
Pods whose PodDisruptionBudget would be violated are put back first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilothouse.apimachinery.labels import Selector, selector_from_label_selector
from pilothouse.apimachinery.object import Obj, condition_of, get_nested
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Framework

NO_VICTIMS = Status(Code.UNRESOLVABLE, ("No preemption victims found for incoming pod",))
Passes = Callable[[CycleState, PodInfo, NodeInfo], Status | None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Deleting ``victims`` (most important first) makes the pod fit on ``node``."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


@dataclass(slots=True)
class Budget:
    """A PodDisruptionBudget as far as preemption needs it."""

    namespace: str
    selector: Selector
    allowed: int
    disrupted: frozenset[str]


def budgets_of(objects: Sequence[Obj]) -> list[Budget]:
    return [
        Budget(
            pdb["metadata"].get("namespace") or "",
            selector_from_label_selector(pdb["spec"].get("selector")),
            get_nested(pdb, "status", "disruptionsAllowed", default=0),
            frozenset(get_nested(pdb, "status", "disruptedPods", default={})),
        )
        for pdb in objects
    ]


def refuses_to_preempt(pod: PodInfo, nominated: NodeInfo | None, last: Status | None) -> str:
    """Why the pod may not preempt at all, or ''."""
    if pod.obj["spec"].get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    if nominated is None or (last is not None and last.code is Code.UNRESOLVABLE):
        return ""
    if any(p.priority < pod.priority and _being_preempted(p.obj) for p in nominated.pods.values()):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _being_preempted(pod: Obj) -> bool:
    if "deletionTimestamp" not in pod["metadata"]:
        return False
    condition = condition_of(pod, "DisruptionTarget")
    return (
        condition is not None
        and condition.get("status") == "True"
        and condition.get("reason") == "PreemptionByScheduler"
    )


def select_victims(
    framework: Framework,
    passes: Passes,
    state: CycleState,
    pod: PodInfo,
    node: NodeInfo,
    budgets: Sequence[Budget],
) -> Candidate | Status:
    """The fewest, least important victims on ``node``, or why there are none."""
    node, state = node.copy(), state.copy()
    possible = [other for other in node.pods.values() if other.priority < pod.priority]
    if not possible:
        return NO_VICTIMS
    for other in possible:
        framework.remove_pod(state, pod, other, node)
    status = passes(state, pod, node)
    if status is not None:
        return status
    possible.sort(key=importance)
    violating, harmless = split_by_budget(possible, budgets)
    victims: list[PodInfo] = []
    violations = 0
    for group, violates in ((violating, 1), (harmless, 0)):
        for other in group:
            framework.add_pod(state, pod, other, node)
            if passes(state, pod, node) is not None:
                framework.remove_pod(state, pod, other, node)
                victims.append(other)
                violations += violates
    victims.sort(key=importance)
    return Candidate(node.name, tuple(victims), violations)


def importance(pod: PodInfo) -> tuple[int, str]:
    """Sort key: more important first (higher priority, then longer running)."""
    return (-pod.priority, str(get_nested(pod.obj, "status", "startTime", default="9999")))


def split_by_budget(
    pods: Sequence[PodInfo], budgets: Sequence[Budget]
) -> tuple[list[PodInfo], list[PodInfo]]:
    """(those that would violate a budget, the others), order kept."""
    left = [budget.allowed for budget in budgets]
    violating: list[PodInfo] = []
    harmless: list[PodInfo] = []
    for pod in pods:
        violates = False
        for i, budget in enumerate(budgets):
            if (
                pod.labels
                and budget.namespace == pod.namespace
                and not budget.selector.empty
                and budget.selector.matches(pod.labels)
                and pod.name not in budget.disrupted
            ):
                left[i] -= 1
                violates = violates or left[i] < 0
        (violating if violates else harmless).append(pod)
    return violating, harmless


def pick_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Upstream's criteria, one after the other: fewest budget violations, lowest top priority of
    the victims, smallest sum of priorities, fewest victims, latest start of the most important
    victims, then the first."""

    def rank(candidate: Candidate) -> tuple[int, int, int, int]:
        priorities = [victim.priority for victim in candidate.victims]
        # Offset as upstream: otherwise a few negative priorities would beat one.
        total = sum(p + 2**31 for p in priorities)
        return (candidate.violations, max(priorities, default=-(2**31)), total, len(priorities))

    best = min(rank(candidate) for candidate in candidates)
    equal = [candidate for candidate in candidates if rank(candidate) == best]
    return max(equal, key=_earliest_start)


def _earliest_start(candidate: Candidate) -> str:
    """Of the victims with the highest priority, the earliest start."""
    if not candidate.victims:
        return ""
    top = candidate.victims[0].priority
    return min(importance(v)[1] for v in candidate.victims if v.priority == top)
