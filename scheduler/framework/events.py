"""Cluster events that move unschedulable pods back to the queue (framework/types.go)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.scheduler.framework.pod_info import PodInfo


class Action(Flag):
    ADD = auto()
    DELETE = auto()
    UPDATE_NODE_ALLOCATABLE = auto()
    UPDATE_NODE_LABEL = auto()
    UPDATE_NODE_TAINT = auto()
    UPDATE_NODE_CONDITION = auto()
    UPDATE_NODE_DECLARED_FEATURE = auto()
    UPDATE_POD_LABEL = auto()
    UPDATE_POD_SCALE_DOWN = auto()
    UPDATE_POD_TOLERATION = auto()
    UPDATE_POD_GATES_ELIMINATED = auto()
    UPDATE = auto()
    """Any other change."""


ANY_NODE_UPDATE = (
    Action.UPDATE_NODE_ALLOCATABLE
    | Action.UPDATE_NODE_LABEL
    | Action.UPDATE_NODE_TAINT
    | Action.UPDATE_NODE_CONDITION
    | Action.UPDATE_NODE_DECLARED_FEATURE
    | Action.UPDATE
)


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """``resource`` is ``Node``, ``Pod`` (the pod itself), ``AssignedPod``,
    ``PersistentVolumeClaim`` …; ``*`` stands for any."""

    resource: str
    action: Action

    @property
    def label(self) -> str:
        """As upstream's metrics call it: NodeUpdateNodeLabel."""
        words = (name.title().replace("_", "") for name in (one.name or "" for one in self.action))
        return self.resource + "".join(words).replace("PodGates", "PodSchedulingGates")


Hint = Callable[["PodInfo", Any, Any], bool]
"""(pod, old object or None, new object or None) -> may it help?"""


@dataclass(frozen=True, slots=True)
class EventRegistration:
    resource: str
    actions: Action
    hint: Hint | None = None

    def matches(self, event: ClusterEvent) -> bool:
        return self.resource in (event.resource, "*") and bool(self.actions & event.action)


def node_update_action(old: dict[str, Any], new: dict[str, Any]) -> Action:
    """What changed between two versions of a node, as far as scheduling cares; empty: nothing."""
    action = Action(0)
    old_status, new_status = old.get("status") or {}, new.get("status") or {}
    if old_status.get("allocatable") != new_status.get("allocatable"):
        action |= Action.UPDATE_NODE_ALLOCATABLE
    if old["metadata"].get("labels") != new["metadata"].get("labels"):
        action |= Action.UPDATE_NODE_LABEL
    old_spec, new_spec = old.get("spec") or {}, new.get("spec") or {}
    if old_spec.get("taints") != new_spec.get("taints") or bool(
        old_spec.get("unschedulable")
    ) != bool(new_spec.get("unschedulable")):
        action |= Action.UPDATE_NODE_TAINT
    if _conditions(old_status) != _conditions(new_status):
        action |= Action.UPDATE_NODE_CONDITION
    if old_status.get("declaredFeatures") != new_status.get("declaredFeatures"):
        action |= Action.UPDATE_NODE_DECLARED_FEATURE
    return action


def _conditions(status: dict[str, Any]) -> dict[str, str]:
    """Only the statuses: heartbeats must not wake pods."""
    return {c["type"]: c["status"] for c in status.get("conditions") or ()}
