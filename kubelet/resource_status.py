"""What a pod as a whole has been given: ``status.resources`` and ``status.allocatedResources``.

Pure; convertToAPIPodLevelResourcesStatus.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_requests import pod_limits, pod_requests
from pilothouse.kubelet.runtime.container_specs import pod_resources

GIVEN = ("cpu", "memory")


def pod_resources_status(pod: Obj, phase: str) -> Obj:
    """The two fields; ``pod`` has the resources that its node has allowed."""
    requests, limits = _texts(pod_requests(pod)), _texts(pod_limits(pod))
    status: Obj = {"allocatedResources": requests} if requests else {}
    if phase == "Running":
        # What its cgroup says, and whatever else the pod itself asks for.
        own = pod["spec"].get("resources") or {}
        cgroup = pod_resources(pod)
        set_limits = {"cpu": cgroup.cpu_quota, "memory": cgroup.memory_limit}
        requests = dict(own.get("requests") or {}) | {
            name: text for name, text in requests.items() if name in GIVEN
        }
        limits = dict(own.get("limits") or {}) | {
            name: text for name, text in limits.items() if set_limits.get(name)
        }
    resources = {"requests": requests, "limits": limits}
    status["resources"] = {kind: amounts for kind, amounts in resources.items() if amounts}
    return status


def _texts(resources: Mapping[str, Quantity]) -> dict[str, str]:
    return {name: str(quantity) for name, quantity in resources.items()}
