"""NodeAffinity: ``spec.nodeSelector`` and node affinity, required and preferred."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.interfaces import (
    SKIP,
    Code,
    CycleState,
    Status,
    default_normalize,
)
from pilothouse.scheduler.framework.node_selector import NodeSelector, compile_term
from pilothouse.scheduler.framework.pod_info import PodInfo

REFUSAL = Status(Code.UNRESOLVABLE, ("node(s) didn't match Pod's node affinity/selector",))
ENFORCED = Status(Code.UNRESOLVABLE, ("node(s) didn't match scheduler-enforced node affinity",))
CONFLICT = Status(Code.UNRESOLVABLE, ("pod affinity terms conflict",))


class NodeAffinity:
    name = "NodeAffinity"

    def __init__(self, added: Obj | None = None) -> None:
        """``added``: a NodeAffinity that all pods of the profile have besides their own."""
        carrier = {"spec": {"affinity": {"nodeAffinity": added or {}}}}
        self._added = _required(carrier)
        self._added_preferred = _preferred(carrier)

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        required = required_affinity(pod)
        if required.empty:
            return SKIP if self._added.empty else None
        names = required.node_names
        if names is None:
            return None
        return frozenset(names) if names else CONFLICT

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if not self._added.matches(node.name, node.labels):
            return ENFORCED
        return None if required_affinity(pod).matches(node.name, node.labels) else REFUSAL

    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None:
        own = pod.memo("PreferredNodeAffinity", _preferred)
        return None if own or self._added_preferred else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        return sum(
            weight
            for weight, matches in (
                *pod.memo("PreferredNodeAffinity", _preferred),
                *self._added_preferred,
            )
            if matches(node.name, node.labels)
        )

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int]) -> None:
        default_normalize(scores)

    def fingerprint(self, pod: PodInfo) -> Hashable:
        return node_affinity_text(pod)

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_LABEL, _node_changed),)


def required_affinity(pod: PodInfo) -> NodeSelector:
    """The pod's nodeSelector and required node affinity, compiled once."""
    selector: NodeSelector = pod.memo("RequiredNodeAffinity", _required)
    return selector


def node_affinity_text(pod: PodInfo) -> str:
    """Equal for pods with the same nodeSelector and node affinity."""
    spec = pod.obj["spec"]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity")
    selector = spec.get("nodeSelector")
    return f"{selector}{affinity}" if selector or affinity else ""


def _required(pod: Obj) -> NodeSelector:
    terms = get_nested(
        pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"
    )
    labels = pod["spec"].get("nodeSelector") or {}
    return NodeSelector(labels, None if terms is None else terms.get("nodeSelectorTerms") or [])


def _preferred(pod: Obj) -> list[tuple[int, Any]]:
    terms = get_nested(
        pod,
        "spec",
        "affinity",
        "nodeAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution",
        default=(),
    )
    return [
        (term["weight"], compile_term(term.get("preference") or {}))
        for term in terms
        if term.get("weight")
    ]


def _node_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    def matches(node: Obj) -> bool:
        metadata = node["metadata"]
        return required_affinity(pod).matches(metadata["name"], metadata.get("labels") or {})

    return matches(new) and (old is None or not matches(old))
