"""NodeUnschedulable: nothing new on a cordoned node, unless the pod tolerates the taint."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from pilothouse.apis.core.tolerations import tolerates_taint
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo

REFUSAL = Status(Code.UNRESOLVABLE, ("node(s) were unschedulable",))
TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeUnschedulable:
    name = "NodeUnschedulable"

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if not node.unschedulable or _tolerates(pod):
            return None
        return REFUSAL

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return repr(pod.tolerations)

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_TAINT, _node_changed),
            EventRegistration("Pod", Action.UPDATE_POD_TOLERATION),
        )


def _tolerates(pod: PodInfo) -> bool:
    return any(tolerates_taint(toleration, TAINT) for toleration in pod.tolerations)


def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    if (new.get("spec") or {}).get("unschedulable"):
        return False
    return old is None or bool((old.get("spec") or {}).get("unschedulable"))
