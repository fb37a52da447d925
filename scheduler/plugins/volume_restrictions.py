"""VolumeRestrictions: disks that only one pod may have, and ReadWriteOncePod claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.apis.core.volume_binding import claim_name_of
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.volume_binding import claim_is_used
from pilothouse.scheduler.plugins.volume_lister import shared_lister

DISK_CONFLICT = Status(Code.UNSCHEDULABLE, ("node(s) had no available disk",))
IN_USE = Status(
    Code.UNSCHEDULABLE,
    (
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
        "already in-use by another pod",
    ),
)
DISKS = ("gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd")


@dataclass(slots=True)
class Conflicts:
    claims: frozenset[str]
    """The pod's ReadWriteOncePod claims."""
    count: int
    """How often other pods use them."""

    def copy(self) -> Conflicts:
        return Conflicts(self.claims, self.count)


class VolumeRestrictions:
    name = "VolumeRestrictions"

    def __init__(self, handle: Handle) -> None:
        self._lister = shared_lister(handle)

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        volumes = pod.obj["spec"].get("volumes")
        if not volumes:
            return SKIP
        exclusive = set()
        for name in claim_names(pod):
            claim = self._lister.claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                text = f'persistentvolumeclaim "{name}" not found'
                return Status(Code.UNRESOLVABLE, (text,))
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                exclusive.add(name)
        conflicts = Conflicts(frozenset(exclusive), 0)
        if exclusive:
            conflicts.count = sum(
                self._uses(conflicts, pod, other) for node in nodes for other in node.pods.values()
            )
        if not conflicts.count and not any(disk in v for v in volumes for disk in DISKS):
            return SKIP
        state[self.name] = conflicts
        return None

    @staticmethod
    def _uses(conflicts: Conflicts, pod: PodInfo, other: PodInfo) -> int:
        if other.namespace != pod.namespace or not other.obj["spec"].get("volumes"):
            return 0
        return sum(name in conflicts.claims for name in claim_names(other))

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        if self.name in state:
            state[self.name].count += self._uses(state[self.name], pod, other)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        if self.name in state:
            state[self.name].count -= self._uses(state[self.name], pod, other)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if any(disks_conflict(pod.obj, other.obj) for other in node.pods.values()):
            return DISK_CONFLICT
        return IN_USE if state[self.name].count > 0 else None

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration("AssignedPod", Action.DELETE, _freed),
            EventRegistration("Node", Action.ADD),
            EventRegistration("PersistentVolumeClaim", Action.ADD, claim_is_used),
        )


def claim_names(pod: PodInfo) -> list[str]:
    """Of claims that the pod names (an ephemeral volume's claim is its own anyway)."""
    names: list[str] = pod.memo(VolumeRestrictions.name, _claim_names)
    return names


def _claim_names(pod: Obj) -> list[str]:
    volumes = get_nested(pod, "spec", "volumes", default=())
    return [
        claim_name_of(pod, v) or "" for v in volumes if v.get("persistentVolumeClaim") is not None
    ]


def disks_conflict(pod: Obj, other: Obj) -> bool:
    mine = [v for v in pod["spec"].get("volumes") or () if any(d in v for d in DISKS)]
    if not mine:
        return False
    theirs = other["spec"].get("volumes") or ()
    return any(_conflict(a, b) for a in mine for b in theirs)


def _conflict(a: Obj, b: Obj) -> bool:
    for disk in DISKS:
        if disk in a and disk in b and _same_disk(disk, a[disk], b[disk]):
            if disk == "awsElasticBlockStore":
                return True
            if not (a[disk].get("readOnly") and b[disk].get("readOnly")):
                return True
    return False


def _same_disk(kind: str, a: Obj, b: Obj) -> bool:
    if kind == "rbd":
        same_pool = (a.get("pool"), a.get("image")) == (b.get("pool"), b.get("image"))
        return same_pool and bool(set(a.get("monitors") or ()) & set(b.get("monitors") or ()))
    key = {"gcePersistentDisk": "pdName", "awsElasticBlockStore": "volumeID", "iscsi": "iqn"}[kind]
    return bool(a.get(key) == b.get(key))


def _freed(pod: PodInfo, old: Any, new: Any) -> bool:
    gone = old or new
    if (gone["metadata"].get("namespace") or "") != pod.namespace:
        return False
    return disks_conflict(pod.obj, gone) or bool(set(_claim_names(gone)) & set(claim_names(pod)))
