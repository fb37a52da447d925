"""Facts about pods that several controllers ask for (pkg/api/v1/pod and controller_utils). Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.names import is_dns1123_subdomain
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    controller_of,
    get_nested,
    meta,
    name_of,
    uid_of,
)
from pilothouse.controllermanager.controller import seconds_of

CONTROLLER_INDEX = "podController"
NODE_INDEX = "spec.nodeName"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase_of(pod: Obj) -> str:
    return get_nested(pod, "status", "phase", default="")  # type: ignore[no-any-return]


def node_of(pod: Obj) -> str:
    return get_nested(pod, "spec", "nodeName", default="")  # type: ignore[no-any-return]


def is_terminal(pod: Obj) -> bool:
    return phase_of(pod) in ("Failed", "Succeeded")


def is_deleted(obj: Obj) -> bool:
    """Whether its deletion was asked for."""
    return bool(meta(obj).get("deletionTimestamp"))


def is_active(pod: Obj) -> bool:
    return not is_terminal(pod) and not is_deleted(pod)


def is_terminating(pod: Obj) -> bool:
    return not is_terminal(pod) and is_deleted(pod)


def is_ready(pod: Obj) -> bool:
    condition = condition_of(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def ready_since(pod: Obj) -> float:
    """When it became ready; 0 when it is not."""
    condition = condition_of(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return 0.0
    return seconds_of(condition.get("lastTransitionTime"))


def is_available(pod: Obj, min_ready_seconds: int, now: float) -> bool:
    """Ready for at least that long."""
    if not is_ready(pod):
        return False
    if min_ready_seconds == 0:
        return True
    since = ready_since(pod)
    return since > 0 and since + min_ready_seconds <= now


def next_availability_check(
    pods: Iterable[Obj], min_ready_seconds: int, now: float
) -> float | None:
    """Seconds until the next ready pod becomes available, if one is on its way."""
    if min_ready_seconds <= 0:
        return None
    waits = [ready_since(p) + min_ready_seconds - now for p in pods if ready_since(p)]
    return min((w for w in waits if w > 0), default=None)


def controller_index(obj: Obj) -> Iterable[str]:
    """Index values for :data:`CONTROLLER_INDEX`: the controller's key, or the namespace alone."""
    return (controller_index_key(meta(obj).get("namespace") or "", controller_of(obj)),)


def controller_index_key(namespace: str, owner: Obj | None) -> str:
    if owner is None:
        return namespace
    return f"{namespace}/{owner.get('kind')}/{owner.get('name')}/{owner.get('uid')}"


def node_index(obj: Obj) -> Iterable[str]:
    node = node_of(obj)
    return (node,) if node else ()


def pod_from_template(template: Obj, owner: Obj, owner_reference: Obj) -> Obj:
    """The pod that a controller creates; the server makes its name from ``generateName``."""
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": generate_name_prefix(name_of(owner)),
            "namespace": meta(owner).get("namespace"),
            **{
                field: metadata[field]
                for field in ("labels", "annotations", "finalizers")
                if metadata.get(field)
            },
            "ownerReferences": [owner_reference],
        },
        "spec": template.get("spec") or {},
    }


def generate_name_prefix(name: str) -> str:
    prefix = f"{name}-"
    return name if is_dns1123_subdomain(prefix, prefix=True) else prefix


def rank_for_deletion(pods: Sequence[Obj], related: Iterable[Obj], now: float) -> list[Obj]:
    """Pods in the order in which to delete them (ActivePodsWithRanks): those that do the least
    first, then from nodes with many related pods, then the youngest."""
    on_node: dict[str, int] = {}
    for pod in related:
        if is_active(pod):
            on_node[node_of(pod)] = on_node.get(node_of(pod), 0) + 1
    return _ordered(_Ranked(pod, on_node.get(node_of(pod), 0), now) for pod in pods)


def active_order(pods: Sequence[Obj]) -> list[Obj]:
    """ActivePods: least useful first, without ranks."""
    return _ordered(_Ranked(pod, 0, 0.0) for pod in pods)


class _Ranked:
    """What pods are compared by, read once a pod."""

    __slots__ = ("created", "now", "pod", "restarts", "since", "usefulness")

    def __init__(self, pod: Obj, rank: int, now: float) -> None:
        self.pod = pod
        self.now = now
        ready = is_ready(pod)
        self.since = ready_since(pod) if ready else 0.0
        self.usefulness = (
            bool(node_of(pod)),
            _PHASE_ORDER.get(phase_of(pod), 0),
            ready,
            deletion_cost(pod) if now else 0,
            -rank,
        )
        self.restarts = _max_restarts(pod)
        self.created = seconds_of(meta(pod).get("creationTimestamp"))


def _ordered(ranked: Iterable[_Ranked]) -> list[Obj]:
    return [one.pod for one in sorted(ranked, key=functools.cmp_to_key(_compare))]


def _compare(a: _Ranked, b: _Ranked) -> int:
    """Negative: ``a`` goes first."""
    if a.usefulness != b.usefulness:
        return -1 if a.usefulness < b.usefulness else 1
    now = a.now
    if a.since != b.since:
        return _younger_first(a.pod, b.pod, a.since, b.since, now)
    if a.restarts != b.restarts:
        return -1 if a.restarts > b.restarts else 1
    if a.created != b.created:
        return _younger_first(a.pod, b.pod, a.created, b.created, now)
    return 0


def _younger_first(a: Obj, b: Obj, time_a: float, time_b: float, now: float) -> int:
    if not now or not time_a or not time_b:
        if not time_a or not time_b:
            return -1 if not time_a else 1
        return -1 if time_a > time_b else 1
    difference = _log_age(time_a, now) - _log_age(time_b, now)
    if difference:
        return difference
    return -1 if uid_of(a) < uid_of(b) else 1


def _log_age(time: float, now: float) -> int:
    """Ages are compared by their power of two so that load is shed evenly."""
    nanoseconds = (now - time) * 1e9
    return int(math.log2(nanoseconds)) if nanoseconds > 0 else -1


def deletion_cost(pod: Obj) -> int:
    text = (meta(pod).get("annotations") or {}).get(DELETION_COST, "")
    try:
        return int(text)
    except ValueError:
        return 0


def _max_restarts(pod: Obj) -> tuple[int, int]:
    """(regular containers, sidecars)"""
    sidecars = {
        container.get("name")
        for container in get_nested(pod, "spec", "initContainers", default=())
        if container.get("restartPolicy") == "Always"
    }

    def most(statuses: Iterable[dict[str, Any]]) -> int:
        return max((int(s.get("restartCount") or 0) for s in statuses), default=0)

    init = get_nested(pod, "status", "initContainerStatuses", default=())
    return (
        most(get_nested(pod, "status", "containerStatuses", default=())),
        most(s for s in init if s.get("name") in sidecars),
    )
