"""What a pod and its containers have been given: ``resources`` and ``allocatedResources``.

Pure; convertToAPIPodLevelResourcesStatus, convertContainerStatusResources. While a resize is under
way, or can't be done, what is told is what the cgroups still say.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_requests import pod_limits, pod_requests
from pilothouse.kubelet.runtime.container_specs import SHARES_PER_CPU, pod_resources
from pilothouse.kubelet.runtime.interfaces import Resources

GIVEN = ("cpu", "memory")


def pod_resources_status(pod: Obj, phase: str, given: Resources | None = None) -> Obj:
    """The two fields; ``pod`` has the resources that its node has allowed. ``given``: what its
    cgroup has when that is not (yet) the same."""
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
        if given is not None:
            _replace(limits, "cpu", _milli_text(given.cpu_quota * 1000 // given.cpu_period))
            _replace(limits, "memory", _bytes_text(given.memory_limit))
            if pod_resources(pod).cpu_shares != given.cpu_shares:
                milli = -(-given.cpu_shares * 1000 // SHARES_PER_CPU)
                _replace(requests, "cpu", _milli_text(milli))
    resources = {"requests": requests, "limits": limits}
    status["resources"] = {kind: amounts for kind, amounts in resources.items() if amounts}
    return status


def container_resources_status(allowed: Obj, given: Obj | None) -> Obj:
    """``resources`` of a container that runs with ``given`` (None: with what it is allowed)."""
    if given is None:
        return allowed
    resources = dict(allowed)
    for kind in ("requests", "limits"):
        if kind not in allowed:
            continue
        amounts = dict(allowed[kind])
        for name in GIVEN:
            _replace(amounts, name, (given.get(kind) or {}).get(name))
        resources[kind] = amounts
    return resources


def _replace(amounts: Obj, name: str, text: str | None) -> None:
    """Unless it is the same amount in other words."""
    if text is None:
        amounts.pop(name, None)
    elif name not in amounts or Quantity.parse(amounts[name]) != Quantity.parse(text):
        amounts[name] = text


def _milli_text(milli: int) -> str | None:
    return str(Quantity.parse(f"{milli}m")) if milli else None


def _bytes_text(amount: int) -> str | None:
    if not amount:
        return None
    for suffix, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if amount % size == 0:
            return f"{amount // size}{suffix}"
    return str(amount)


def _texts(resources: Mapping[str, Quantity]) -> dict[str, str]:
    return {name: str(quantity) for name, quantity in resources.items()}
