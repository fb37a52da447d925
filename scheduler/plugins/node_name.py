"""NodeName: a pod that names a node fits only there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo

REFUSAL = Status(Code.UNRESOLVABLE, ("node(s) didn't match the requested node name",))


class NodeName:
    name = "NodeName"

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        wanted = pod.node_name
        return None if not wanted or wanted == node.name else REFUSAL

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return pod.node_name

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (EventRegistration("Node", Action.ADD),)
