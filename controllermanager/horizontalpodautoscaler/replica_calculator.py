"""How many replicas a metric asks for (podautoscaler/replica_calculator.go). Pure.

Values are thousandths: of cores, of bytes, of whatever a custom metric counts. Pods without a
metric and pods that are not ready yet are counted so that they can only make a change smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import condition_of, get_nested, name_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_names import is_pod_level
from pilothouse.apis.core.resource_requests import pod_requests
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.pods import is_deleted, is_ready

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

MAX_INT32 = (1 << 31) - 1
MAX_INT64 = (1 << 63) - 1
NO_PODS = "no pods returned by selector while calculating replica count"
NO_METRICS = "did not receive metrics for targeted pods (pods might be unready)"


class CalculationError(Exception):
    """The metric says nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    scale_down: float = 0.1
    scale_up: float = 0.1

    def is_within(self, ratio: float) -> bool:
        return (1.0 - self.scale_down) <= ratio <= (1.0 + self.scale_up)


@dataclass(frozen=True, slots=True)
class PodMetric:
    """``timestamp`` is the end of the ``window`` (seconds) that it was measured in."""

    value: int
    timestamp: float = 0.0
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """What tells whether a pod's processor metric can be believed. Seconds."""

    now: float
    cpu_initialization_period: float = 300.0
    delay_of_initial_readiness: float = 30.0


@dataclass(slots=True)
class Groups:
    """Pods by what their metrics are good for; those that are ready are only counted."""

    ready: int
    unready: set[str]
    missing: set[str]
    ignored: set[str]


def group_pods(
    pods: Sequence[Obj], metrics: Mapping[str, PodMetric], resource: str, readiness: Readiness
) -> Groups:
    groups = Groups(0, set(), set(), set())
    for pod in pods:
        name, phase = name_of(pod), get_nested(pod, "status", "phase")
        if is_deleted(pod) or phase == "Failed":
            groups.ignored.add(name)
        elif phase == "Pending":
            groups.unready.add(name)
        elif name not in metrics:
            groups.missing.add(name)
        elif resource == "cpu" and _is_unready(pod, metrics[name], readiness):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _is_unready(pod: Obj, metric: PodMetric, readiness: Readiness) -> bool:
    condition = condition_of(pod, "Ready")
    started = get_nested(pod, "status", "startTime")
    if condition is None or not started:
        return True
    is_false = condition.get("status") == "False"
    since = seconds_of(condition.get("lastTransitionTime"))
    start = seconds_of(started)
    if start + readiness.cpu_initialization_period > readiness.now:
        # It may still be starting: a whole window must have passed since it last changed.
        return is_false or metric.timestamp < since + metric.window
    # Not ready now and never ready before.
    return is_false and start + readiness.delay_of_initial_readiness > since


def requests_of(pods: Sequence[Obj], container: str, resource: str) -> dict[str, int]:
    """The request of each pod, or of one of its containers. :raises CalculationError: none."""
    requests = {}
    for pod in pods:
        own = get_nested(pod, "spec", "resources", "requests") or {}
        if not container and any(map(is_pod_level, own)):
            requests[name_of(pod)] = _pod_level_request(pod, resource)
        else:
            requests[name_of(pod)] = _containers_request(pod, container, resource)
    return requests


def _pod_level_request(pod: Obj, resource: str) -> int:
    found = pod_requests(pod).get(resource)
    if found is None:
        raise CalculationError(f"missing pod-level request for {resource} in Pod {name_of(pod)}")
    return Quantity.parse(str(found)).milli_value()


def _containers_request(pod: Obj, container: str, resource: str) -> int:
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    total: int = 0
    for each in [*(spec.get("containers") or ()), *sidecars]:
        if container and each["name"] != container:
            continue
        request = get_nested(each, "resources", "requests", resource)
        if request is None:
            raise CalculationError(
                f"missing request for {resource} in container {each['name']} of Pod {name_of(pod)}"
            )
        total += Quantity.parse(request).milli_value()
        if container:
            return total
    if container:
        raise CalculationError(f"container {container} not found in Pod {name_of(pod)}")
    return total


def utilization_ratio(
    metrics: Mapping[str, PodMetric], requests: Mapping[str, int], target: int
) -> tuple[float, int, int]:
    """(ratio to the target, utilization in percent, average value)."""
    known = [name for name in metrics if name in requests]
    requested = sum(requests[name] for name in known)
    if not requested:
        raise CalculationError("no metrics returned matched known pods")
    used = sum(metrics[name].value for name in known)
    utilization = used * 100 // requested
    return utilization / target, utilization, used // len(known)


def usage_ratio(metrics: Mapping[str, PodMetric], target: int) -> tuple[float, int]:
    """(ratio to the target, average value)."""
    average = sum(metric.value for metric in metrics.values()) // len(metrics)
    return average / target, average


def _usable(metrics: dict[str, PodMetric], groups: Groups) -> dict[str, PodMetric]:
    left_out = groups.ignored | groups.unready
    usable = {name: metric for name, metric in metrics.items() if name not in left_out}
    if not usable:
        raise CalculationError(NO_METRICS)
    return usable


def resource_replicas(
    current: int,
    target: int,
    resource: str,
    metrics: dict[str, PodMetric],
    pods: Sequence[Obj],
    tolerances: Tolerances,
    readiness: Readiness,
    container: str = "",
) -> tuple[int, int, int]:
    """For a target utilization in percent of the requests: (replicas, utilization, average).

    :raises CalculationError: no answer.
    """
    if not pods:
        raise CalculationError(NO_PODS)
    groups = group_pods(pods, metrics, resource, readiness)
    usable = _usable(metrics, groups)
    requests = requests_of(pods, container, resource)
    ratio, utilization, average = utilization_ratio(usable, requests, target)
    fallback = max(100, target)
    absent = {name: requests[name] * fallback // 100 for name in groups.missing}
    filled = _filled(ratio, usable, groups, absent)
    if filled is None:
        replicas = _simple(current, ratio, groups.ready, tolerances)
    else:
        new_ratio, _, _ = utilization_ratio(filled, requests, target)
        replicas = _cautious(current, ratio, new_ratio, len(filled), tolerances)
    return replicas, utilization, average


def plain_replicas(
    current: int,
    target: int,
    metrics: dict[str, PodMetric],
    pods: Sequence[Obj],
    tolerances: Tolerances,
    readiness: Readiness,
    resource: str = "",
) -> tuple[int, int]:
    """For a target average value: (replicas, average). :raises CalculationError: no answer."""
    if not pods:
        raise CalculationError(NO_PODS)
    groups = group_pods(pods, metrics, resource, readiness)
    usable = _usable(metrics, groups)
    ratio, average = usage_ratio(usable, target)
    filled = _filled(ratio, usable, groups, dict.fromkeys(groups.missing, target))
    if filled is None:
        return _simple(current, ratio, groups.ready, tolerances), average
    new_ratio, _ = usage_ratio(filled, target)
    return _cautious(current, ratio, new_ratio, len(filled), tolerances), average


def _filled(
    ratio: float, usable: dict[str, PodMetric], groups: Groups, absent: Mapping[str, int]
) -> dict[str, PodMetric] | None:
    """The metrics with guesses for pods that have none: ``absent`` when it would go down,
    nothing when it would go up. None: there is nothing to guess."""
    up_with_unready = bool(groups.unready) and ratio > 1.0
    if not up_with_unready and not groups.missing:
        return None
    filled = dict(usable)
    if ratio < 1.0:
        filled |= {name: PodMetric(value) for name, value in absent.items()}
    elif ratio > 1.0:
        filled |= {name: PodMetric(0) for name in groups.missing}
    if up_with_unready:
        filled |= {name: PodMetric(0) for name in groups.unready}
    return filled


def _simple(current: int, ratio: float, ready: int, tolerances: Tolerances) -> int:
    return current if tolerances.is_within(ratio) else math.ceil(ratio * ready)


def _cautious(
    current: int, ratio: float, new_ratio: float, counted: int, tolerances: Tolerances
) -> int:
    """With guesses: no change when they turn its direction round."""
    turned = (ratio < 1.0 < new_ratio) or (new_ratio < 1.0 < ratio)
    if tolerances.is_within(new_ratio) or turned:
        return current
    replicas = math.ceil(new_ratio * counted)
    if (new_ratio < 1.0 and replicas > current) or (new_ratio > 1.0 and replicas < current):
        return current
    return replicas


def total_replicas(
    current: int, usage: int, target: int, pods: Sequence[Obj], tolerances: Tolerances
) -> int:
    """For a value that belongs to all pods together (object and external metrics).

    :raises CalculationError: no answer.
    """
    ratio = usage / target
    if current == 0:
        return min(math.ceil(ratio), MAX_INT32)
    if tolerances.is_within(ratio):
        return current
    if not pods:
        raise CalculationError(f"unable to calculate ready pods: {NO_PODS}")
    ready: int = sum(
        get_nested(pod, "status", "phase") == "Running" and is_ready(pod) for pod in pods
    )
    return min(math.ceil(ratio * ready), MAX_INT32)


def per_pod_replicas(
    status_replicas: int, usage: int, target: int, tolerances: Tolerances
) -> tuple[int, int]:
    """For a value of which each pod should have its share: (replicas, share)."""
    if not status_replicas:
        return min(math.ceil(usage / target), MAX_INT32), usage
    replicas = status_replicas
    if not tolerances.is_within(usage / (target * status_replicas)):
        replicas = min(math.ceil(usage / target), MAX_INT32)
    if usage >= MAX_INT64:
        return replicas, MAX_INT64
    return replicas, -(-usage // status_replicas)


def capped_sum(values: Sequence[int]) -> int:
    """As int64 holds it."""
    return min(sum(values), MAX_INT64)
