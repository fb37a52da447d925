"""NodeDeclaredFeatures: a pod that uses a feature goes to nodes that declare it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.declared_features import missing, needed_for_scheduling
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo

_REFUSAL = Status(Code.UNRESOLVABLE, ("node(s) didn't match Pod's required features",))


class NodeDeclaredFeatures:
    name = "NodeDeclaredFeatures"

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        return None if self._needed(pod) else SKIP

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        return _REFUSAL if missing(self._needed(pod), node.obj or {}) else None

    def _needed(self, pod: PodInfo) -> frozenset[str]:
        needed: frozenset[str] = pod.memo(self.name, _of_pod)
        return needed

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return self._needed(pod)

    def events_to_register(self) -> Iterable[EventRegistration]:
        node = Action.ADD | Action.UPDATE_NODE_DECLARED_FEATURE
        return (EventRegistration("Node", node, _node_changed),)


def _of_pod(pod: Obj) -> frozenset[str]:
    return needed_for_scheduling(pod["spec"])


def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    return old is None or _features(old) != _features(new)


def _features(node: Obj) -> list[str]:
    return (node.get("status") or {}).get("declaredFeatures") or []
