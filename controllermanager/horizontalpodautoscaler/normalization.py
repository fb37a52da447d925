"""From what metrics ask for to what is done: limits, policies, stabilization. Pure.

podautoscaler/horizontal.go ``normalizeDesiredReplicas`` and ``…WithBehaviors``. A
:class:`History` is what is remembered of one autoscaler; time is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilothouse.controllermanager.horizontalpodautoscaler.replica_calculator import MAX_INT32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.object import Obj

SCALE_UP_FACTOR = 2.0
SCALE_UP_MINIMUM = 4.0
_LONGEST_WINDOW = 3600.0
_LONGEST_PERIOD = 1800.0
IN_RANGE = ("DesiredWithinRange", "the desired count is within the acceptable range")
READY = ("ReadyForNewScale", "recommended size matches current size")
_DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent "
    "recommendation",
)
_UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_UP_LIMIT = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
)
_DOWN_LIMIT = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)
Reason = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Timed:
    """A recommendation, or a change of the replica count (not negative), and when it was."""

    value: int
    at: float


@dataclass(slots=True)
class History:
    recommendations: list[Timed] = field(default_factory=list)
    ups: list[Timed] = field(default_factory=list)
    downs: list[Timed] = field(default_factory=list)

    def start_with(self, replicas: int, now: float) -> None:
        """The first look at a workload recommends what it has."""
        if not self.recommendations:
            self.recommendations.append(Timed(replicas, now))

    def recommend(self, replicas: int, now: float) -> None:
        kept = [each for each in self.recommendations if each.at >= now - _LONGEST_WINDOW]
        self.recommendations = [*kept, Timed(replicas, now)]

    def scaled(self, before: int, after: int, now: float) -> None:
        events = self.ups if after > before else self.downs
        events[:] = [each for each in events if each.at > now - _LONGEST_PERIOD]
        events.append(Timed(abs(after - before), now))


@dataclass(frozen=True, slots=True)
class Normalized:
    replicas: int
    able: Reason
    """Of the condition AbleToScale, which is True."""
    limited: bool
    limit: Reason
    """Of the condition ScalingLimited."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, and the autoscaler's bounds."""

    current: int
    desired: int
    minimum: int
    maximum: int
    now: float


def normalize(request: Request, history: History, window: float) -> Normalized:
    """Without ``spec.behavior``: ``window`` is the stabilization of scaling down."""
    recent = (each.value for each in history.recommendations if each.at >= request.now - window)
    stabilized = max([request.desired, *recent])
    history.recommend(request.desired, request.now)
    able = READY if stabilized == request.desired else _DOWN_STABILIZED
    replicas, limit = _with_rules(request, stabilized)
    return Normalized(replicas, able, replicas != stabilized, limit)


def _with_rules(request: Request, desired: int) -> tuple[int, Reason]:
    limit = int(max(SCALE_UP_FACTOR * request.current, SCALE_UP_MINIMUM))
    most, reason = (limit, _UP_LIMIT) if request.maximum > limit else (request.maximum, _TOO_MANY)
    if desired < request.minimum:
        return request.minimum, _TOO_FEW
    if desired > most:
        return most, reason
    return desired, IN_RANGE


def normalize_with_behavior(
    request: Request, history: History, behavior: Obj, window: float
) -> Normalized:
    """``behavior`` has its defaults; ``window`` is for a scaleDown without one of its own."""
    stabilized, reason = _stabilize(request, history, behavior, window)
    able = READY if stabilized == request.desired else reason
    replicas, limit = _with_rates(request, stabilized, history, behavior)
    return Normalized(replicas, able, replicas != stabilized, limit)


def _window(rules: Obj, default: float) -> float:
    seconds = rules.get("stabilizationWindowSeconds")
    return default if seconds is None else float(seconds)


def _stabilize(
    request: Request, history: History, behavior: Obj, window: float
) -> tuple[int, Reason]:
    up_cutoff = request.now - _window(behavior.get("scaleUp") or {}, 0.0)
    down_cutoff = request.now - _window(behavior.get("scaleDown") or {}, window)
    up = down = request.desired
    for each in history.recommendations:
        if each.at > up_cutoff:
            up = min(up, each.value)
        if each.at > down_cutoff:
            down = max(down, each.value)
    stabilized = min(max(request.current, up), down)
    history.recommend(request.desired, request.now)
    rises = request.desired >= request.current
    return stabilized, _UP_STABILIZED if rises else _DOWN_STABILIZED


def _with_rates(
    request: Request, desired: int, history: History, behavior: Obj
) -> tuple[int, Reason]:
    current = request.current
    if desired > current:
        rules = behavior.get("scaleUp") or {}
        limit = max(_up_limit(current, history, rules, request.now), current)
        most, reason = (
            (limit, _UP_LIMIT) if request.maximum > limit else (request.maximum, _TOO_MANY)
        )
        if desired > most:
            return most, reason
    elif desired < current:
        rules = behavior.get("scaleDown") or {}
        limit = min(_down_limit(current, history, rules, request.now), current)
        least, reason = (
            (limit, _DOWN_LIMIT) if request.minimum < limit else (request.minimum, _TOO_FEW)
        )
        if desired < least:
            return least, reason
    return desired, IN_RANGE


def _changed(events: Sequence[Timed], period: float, now: float) -> int:
    return sum(each.value for each in events if each.at > now - period)


def _period_starts(current: int, history: History, rules: Obj, now: float) -> list[tuple[Obj, int]]:
    """Each policy with the replica count at the beginning of its period."""
    return [
        (
            policy,
            current
            - _changed(history.ups, policy["periodSeconds"], now)
            + _changed(history.downs, policy["periodSeconds"], now),
        )
        for policy in rules.get("policies") or ()
    ]


def _up_limit(current: int, history: History, rules: Obj, now: float) -> int:
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    proposals = []
    for policy, start in _period_starts(current, history, rules, now):
        if policy["type"] == "Pods":
            proposals.append(start + policy["value"])
        else:
            # Rounded up: a small percentage must be able to move a small count.
            proposals.append(math.ceil(start * (1 + policy["value"] / 100)))
    if select == "Min":
        return min(proposals, default=MAX_INT32)
    return max(proposals, default=-MAX_INT32 - 1)


def _down_limit(current: int, history: History, rules: Obj, now: float) -> int:
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    proposals = []
    for policy, start in _period_starts(current, history, rules, now):
        if policy["type"] == "Pods":
            proposals.append(start - policy["value"])
        else:
            proposals.append(int(start * (1 - policy["value"] / 100)))
    if select == "Min":
        return max(proposals, default=-MAX_INT32 - 1)
    return min(proposals, default=MAX_INT32)
