"""Which pod goes first, and what it is told (pure; pkg/kubelet/eviction/helpers.go)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.pod_helpers import is_mirror_pod
from pilothouse.apis.core.qos import pod_qos
from pilothouse.apis.core.resource_requests import pod_requests
from pilothouse.kubelet.eviction.thresholds import RESOURCES, Observation, Threshold

CRITICAL_PRIORITY = 2_000_000_000
_MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a pod takes of the short resource: memory bytes, disk bytes, processes."""

    by_container: Mapping[str, int] = field(default_factory=dict)
    elsewhere: int = 0
    """Volumes."""

    @property
    def total(self) -> int:
        return sum(self.by_container.values()) + self.elsewhere


def is_critical(pod: Obj) -> bool:
    """Never evicted: static pods, mirror pods and those of system-critical classes."""
    source = (pod["metadata"].get("annotations") or {}).get("kubernetes.io/config.source", "api")
    if source != "api" or is_mirror_pod(pod):
        return True
    return int(pod["spec"].get("priority") or 0) >= CRITICAL_PRIORITY


def ranked(pods: Sequence[Obj], usage: Mapping[str, Usage], resource: str) -> list[Obj]:
    """The first to go first: over its request, of low priority, using much above its request."""

    def key(pod: Obj) -> tuple[bool, int, int]:
        used = usage.get(pod["metadata"]["uid"], Usage()).total
        request = pod_requests(pod).get(resource)
        above = used - (request.value() if request is not None else 0)
        exceeds = above > 0 and resource != "pids"
        return not exceeds, int(pod["spec"].get("priority") or 0), -above

    return sorted((pod for pod in pods if not is_critical(pod)), key=key)


def message(
    pod: Obj, usage: Usage, threshold: Threshold, observed: Mapping[str, Observation]
) -> str:
    """Upstream's words for the pod's status."""
    resource = RESOURCES[threshold.signal]
    text = f"The node was low on resource: {resource}. "
    seen = observed.get(threshold.signal)
    if seen is not None:
        limit = _figure(threshold.limit(seen.capacity), resource)
        available = _figure(seen.available, resource)
        text += f"Threshold quantity: {limit}, available: {available}. "
    spec = pod["spec"]
    for container in (*spec["containers"], *(spec.get("initContainers") or ())):
        used = usage.by_container.get(container["name"])
        requests = (container.get("resources") or {}).get("requests") or {}
        request = Quantity.parse(requests.get(resource) or 0)
        if used is not None and used > request.value():
            text += (
                f"Container {container['name']} was using {_figure(used, resource)}, "
                f"request is {request}, has larger consumption of {resource}. "
            )
    return text


def _figure(amount: int, resource: str) -> str:
    if resource in ("memory", "ephemeral-storage") and amount >= 1024:
        return f"{amount // 1024}Ki"
    return str(amount)


def rejection(pod: Obj, conditions: frozenset[str]) -> tuple[str, str] | None:
    """(reason, message) of a new pod that a node under pressure doesn't take."""
    if not conditions or is_critical(pod):
        return None
    if conditions == {"MemoryPressure"}:
        if pod_qos(pod) != "BestEffort":
            return None
        if any(_tolerates(t) for t in pod["spec"].get("tolerations") or ()):
            return None
    return "Evicted", f"The node had condition: [{' '.join(sorted(conditions))}]. "


def _tolerates(toleration: Obj) -> bool:
    """The taint of memory pressure."""
    if toleration.get("effect") not in (None, "", "NoSchedule"):
        return False
    exists = toleration.get("operator") == "Exists"
    key = toleration.get("key") or ""
    if not key:
        return exists
    return key == _MEMORY_TAINT and (exists or not toleration.get("value"))
