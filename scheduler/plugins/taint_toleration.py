"""TaintToleration: NoSchedule and NoExecute taints keep pods away that don't tolerate them;
PreferNoSchedule ones cost score."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.tolerations import find_untolerated_taint, tolerates_taint
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import (
    Code,
    CycleState,
    Status,
    default_normalize,
)
from pilothouse.scheduler.framework.pod_info import PodInfo

REFUSAL = Status(Code.UNRESOLVABLE, ("node(s) had untolerated taint(s)",))


class TaintToleration:
    name = "TaintToleration"

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if not node.taints:
            return None
        taint = find_untolerated_taint(node.taints, pod.tolerations, _keeps_away)
        return None if taint is None else REFUSAL

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        state[self.name] = [
            t for t in pod.tolerations if t.get("effect") in (None, "", "PreferNoSchedule")
        ]
        return None

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        if not node.taints:
            return 0
        tolerations = state[self.name]
        return sum(
            1
            for taint in node.taints
            if taint.get("effect") == "PreferNoSchedule"
            and not any(tolerates_taint(t, taint) for t in tolerations)
        )

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int]) -> None:
        default_normalize(scores, reverse=True)

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return repr(pod.tolerations)

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_TAINT, _node_changed),
            EventRegistration("Pod", Action.UPDATE_POD_TOLERATION),
        )


def _keeps_away(taint: Obj) -> bool:
    return taint.get("effect") in ("NoSchedule", "NoExecute")


def _untolerated(pod: PodInfo, node: Any) -> bool:
    taints = (node.get("spec") or {}).get("taints") or ()
    return find_untolerated_taint(taints, pod.tolerations, _keeps_away) is not None


def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    return (old is None or _untolerated(pod, old)) and not _untolerated(pod, new)
