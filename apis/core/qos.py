"""The quality-of-service class of a pod (pkg/apis/core/helper/qos)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.resource_requests import is_pod_level_resources_set

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"


def pod_qos(pod: Obj) -> str:
    """The class in the status; computed while there is none."""
    status = pod.get("status") or {}
    return status.get("qosClass") or compute_pod_qos(pod)


def compute_pod_qos(pod: Obj) -> str:
    spec = pod.get("spec") or {}
    if is_pod_level_resources_set(spec):
        return _requirements_qos(spec["resources"])
    found = ""
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            of_container = _requirements_qos(container.get("resources") or {})
            if of_container == BURSTABLE or (found and found != of_container):
                return BURSTABLE
            found = of_container
    return found or BEST_EFFORT


def _requirements_qos(resources: Obj) -> str:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    if not requests and not limits:
        return BEST_EFFORT
    found = ""
    for name in ("cpu", "memory"):
        request = parse_quantity(requests.get(name, "0"))
        if request != parse_quantity(limits.get(name, "0")):
            return BURSTABLE
        of_resource = BEST_EFFORT if request == parse_quantity("0") else GUARANTEED
        if found and found != of_resource:
            return BURSTABLE
        found = of_resource
    return found
