"""Whether a pod that was bound to this node can run here (pkg/kubelet/lifecycle/predicate.go).

The scheduler has looked already, but it may have been behind, or the pod came with a node name of
its own. A rejected pod fails with a reason such as ``OutOfcpu`` or ``NodePorts``; the state here is
what the admitted pods hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_requests import parse_list, pod_requests
from pilothouse.kubelet.admission_rules import unsuitable
from pilothouse.kubelet.eviction.ranking import rejection as under_pressure
from pilothouse.kubelet.runtime.resizes import changed_resources

if TYPE_CHECKING:
    from pilothouse.apis.core.resource_requests import ResourceList

Rejection = tuple[str, str]
"""(reason, message) of the failed pod."""
HostPort = tuple[str, str, int]
"""(address, protocol, port); every address is ``0.0.0.0``."""
_EVERY_ADDRESS = "0.0.0.0"
_NO_PORTS = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"


@dataclass(frozen=True, slots=True)
class _Held:
    requests: ResourceList
    ports: frozenset[HostPort]
    resources: dict[str, Obj]
    """By container, as the spec had them when they were admitted; ``_POD``: the pod's own."""


class PodAdmission:
    """What the pods of one node hold. Released pods may hold nothing any more."""

    def __init__(
        self,
        unsafe_sysctls: tuple[str, ...] = (),
        pressures: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """``pressures``: the node's conditions of pressure that hold."""
        self._unsafe_sysctls = unsafe_sysctls
        self._pressures = pressures
        self._held: dict[str, _Held] = {}
        self.closed: Rejection | None = None
        """Why no pod comes in any more."""

    def admit(self, pod: Obj, node: Obj, *, running: bool) -> Rejection | None:
        """Takes what the pod needs, or says why it can't have it. Asked again, it says yes;
        ``running``: it has been admitted by an earlier kubelet."""
        uid = pod["metadata"]["uid"]
        if uid in self._held:
            return None
        if self.closed is not None and not running:
            return self.closed
        # What runs has been given what its status says; the spec may want something else by now.
        given = _with_resources(pod, _reported(pod)) if running else pod
        wanted = _Held(pod_requests(given), host_ports(pod), _resources(given))
        rejection = None if running else self._unsuitable(pod) or self._rejection(wanted, node)
        if rejection is None:
            self._held[uid] = wanted
            return None
        reason, message = rejection
        return reason, f"Pod was rejected: {message}"

    def _unsuitable(self, pod: Obj) -> Rejection | None:
        problem = unsuitable(pod, self._unsafe_sysctls)
        return problem or under_pressure(pod, self._pressures())

    def resize(self, pod: Obj, node: Obj) -> tuple[Obj, Rejection | None, bool]:
        """An admitted pod with the resources that it may have now: its spec's, or those that it
        had before when the node has no room, with the reason (Infeasible or Deferred). Last:
        whether these are others than before."""
        uid = pod["metadata"]["uid"]
        held = self._held.get(uid)
        if held is None:
            return pod, None, False
        new = _resources(pod)
        if not _differ(held.resources, new):
            return pod, None, False
        wanted = pod_requests(pod)
        problem = self._no_room(uid, wanted, node)
        if problem is not None:
            return _with_resources(pod, held.resources), problem, False
        self._held[uid] = _Held(wanted, held.ports, new)
        return pod, None, True

    def _no_room(self, uid: str, wanted: ResourceList, node: Obj) -> Rejection | None:
        """Why the pod can't get more than it has."""
        allocatable = parse_list(get_nested(node, "status", "allocatable"))
        before = self._held[uid].requests
        for name, requested in wanted.items():
            capacity = allocatable.get(name)
            if capacity is None or requested <= before.get(name, _ZERO):
                continue
            if requested > capacity:
                figures = [_figure(name, q) for q in (requested, capacity)]
                return "Infeasible", (
                    f"Node didn't have enough capacity: {name}, requested: {figures[0]}, "
                    f"capacity: {figures[1]}"
                )
            others = (held for other, held in self._held.items() if other != uid)
            used = sum((held.requests.get(name, _ZERO) for held in others), _ZERO)
            if requested + used > capacity:
                figures = [_figure(name, q) for q in (requested, used, capacity)]
                return "Deferred", _shortage(name, *figures)
        return None

    def release(self, uid: str) -> None:
        self._held.pop(uid, None)

    def _rejection(self, wanted: _Held, node: Obj) -> Rejection | None:
        allocatable = parse_list(get_nested(node, "status", "allocatable"))
        pods = allocatable.get("pods")
        if pods is not None and len(self._held) + 1 > pods.value():
            return "OutOfpods", _shortage("pods", 1, len(self._held), pods.value())
        for name, requested in wanted.requests.items():
            capacity = allocatable.get(name)
            if capacity is None or requested <= _ZERO:
                continue  # what no node has is no node's to refuse
            used = sum(
                (held.requests[name] for held in self._held.values() if name in held.requests),
                _ZERO,
            )
            if requested + used > capacity:
                figures = (_figure(name, q) for q in (requested, used, capacity))
                return f"OutOf{name}", _shortage(name, *figures)
        for held in self._held.values():
            if conflict(wanted.ports, held.ports):
                return "NodePorts", _NO_PORTS
        return None


_ZERO = Quantity.of(0)


_POD = ""


def _resources(pod: Obj) -> dict[str, Obj]:
    spec = pod["spec"]
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return {c["name"]: c.get("resources") or {} for c in containers} | {
        _POD: spec.get("resources") or {}
    }


def _reported(pod: Obj) -> dict[str, Obj]:
    """As its containers' statuses have them, the spec's where there is none."""
    status = pod.get("status") or {}
    listed = (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    )
    reported = {s["name"]: s["resources"] for s in listed if "resources" in s}
    given = status.get("resources") or {}
    reported[_POD] = {
        kind: {name: (given.get(kind) or {}).get(name, text) for name, text in amounts.items()}
        for kind, amounts in (pod["spec"].get("resources") or {}).items()
        if kind in ("requests", "limits")
    }
    return _resources(pod) | {name: kept for name, kept in reported.items() if kept}


def _differ(before: dict[str, Obj], after: dict[str, Obj]) -> bool:
    return any(changed_resources(before.get(name) or {}, after[name]) for name in after)


def _with_resources(pod: Obj, resources: dict[str, Obj]) -> Obj:
    spec = dict(pod["spec"])
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [{**c, "resources": resources.get(c["name"], {})} for c in spec[key]]
    if resources.get(_POD):
        spec["resources"] = resources[_POD]
    return {**pod, "spec": spec}


def _figure(name: str, quantity: Quantity) -> int:
    return quantity.milli_value() if name == "cpu" else quantity.value()


def _shortage(name: str, requested: int, used: int, capacity: int) -> str:
    return (
        f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, "
        f"capacity: {capacity}"
    )


def host_ports(pod: Obj) -> frozenset[HostPort]:
    """Of its containers and sidecars."""
    spec = pod["spec"]
    sidecars = (c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")
    return frozenset(
        (port.get("hostIP") or _EVERY_ADDRESS, port.get("protocol") or "TCP", port["hostPort"])
        for container in (*(spec.get("containers") or ()), *sidecars)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def conflict(some: Iterable[HostPort], others: frozenset[HostPort]) -> bool:
    """The same port and protocol on the same address, or on every address for one of them."""
    for address, protocol, port in some:
        for other, other_protocol, other_port in others:
            same = (protocol, port) == (other_protocol, other_port)
            if same and (address == other or _EVERY_ADDRESS in (address, other)):
                return True
    return False
