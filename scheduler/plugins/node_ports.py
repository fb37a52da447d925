"""NodePorts: the host ports that the pod asks for must be free on the node."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo, Port
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo, host_ports

REFUSAL = Status(
    Code.UNSCHEDULABLE, ("node(s) didn't have free ports for the requested pod ports",)
)
ANY_ADDRESS = "0.0.0.0"


class NodePorts:
    name = "NodePorts"

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        return None if pod.ports else SKIP

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        taken = node.ports
        if not taken:
            return None
        return REFUSAL if any(conflicts(port, taken) for port in pod.ports) else None

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return pod.ports

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration("AssignedPod", Action.DELETE, _pod_deleted),
            EventRegistration("Node", Action.ADD),
        )


def conflicts(wanted: Port, taken: Iterable[Port]) -> bool:
    """Same protocol and port on the same address; 0.0.0.0 is every address."""
    ip, protocol, number = wanted
    return any(
        protocol == other_protocol
        and number == other_number
        and (ip == other_ip or ANY_ADDRESS in (ip, other_ip))
        for other_ip, other_protocol, other_number in taken
    )


def _pod_deleted(pod: PodInfo, old: Any, new: Any) -> bool:
    return any(conflicts(port, host_ports(old["spec"])) for port in pod.ports)
