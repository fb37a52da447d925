"""VolumeZone: a volume with zone or region labels keeps its pod in that zone or region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested, meta
from pilothouse.apis.core.volume_binding import WAIT_FOR_FIRST_CONSUMER, class_of
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.volume_binding import claim_is_used
from pilothouse.scheduler.plugins.volume_lister import shared_lister

TOPOLOGY_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region": "topology.kubernetes.io/region",
}
"""Labels of volumes, each with its present name."""
ZONE_CONFLICT = Status(Code.UNRESOLVABLE, ("node(s) had no available volume zone",))

Topology = tuple[str, frozenset[str]]


class VolumeZone:
    name = "VolumeZone"

    def __init__(self, handle: Handle) -> None:
        self._lister = shared_lister(handle)

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        names = pod.memo(self.name, _claim_names)
        if not names:
            return SKIP
        topologies: list[Topology] = []
        for name in names:
            found = self._topologies(pod.namespace, name)
            if isinstance(found, Status):
                return found
            topologies += found
        if not topologies:
            return SKIP
        state[self.name] = topologies
        return None

    def _topologies(self, namespace: str, name: str) -> list[Topology] | Status:
        claim = self._lister.claims.get(f"{namespace}/{name}")
        if claim is None:
            return _refusal(f'persistentvolumeclaim "{name}" not found')
        volume_name = claim["spec"].get("volumeName") or ""
        if not volume_name:
            return self._unbound(class_of(claim))
        volume = self._lister.volumes.get(volume_name)
        if volume is None:
            return _refusal(f'persistentvolume "{volume_name}" not found')
        return topologies_of(volume)

    def _unbound(self, class_name: str) -> list[Topology] | Status:
        if not class_name:
            return _refusal("PersistentVolumeClaim had no pv name and storageClass name")
        storage_class = self._lister.classes.get(class_name)
        if storage_class is None:
            return _refusal(f'storageclass.storage.k8s.io "{class_name}" not found')
        if storage_class.get("volumeBindingMode") == WAIT_FOR_FIRST_CONSUMER:
            return []
        return _refusal("PersistentVolume had no name")

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if not any(label in node.labels for label in TOPOLOGY_LABELS):
            return None  # a cluster without zones
        for label, values in state[self.name]:
            value = node.labels.get(label, node.labels.get(TOPOLOGY_LABELS[label]))
            if value not in values:
                return ZONE_CONFLICT
        return None

    def events_to_register(self) -> Iterable[EventRegistration]:
        changed = Action.ADD | Action.UPDATE
        return (
            EventRegistration("StorageClass", Action.ADD, _class_waits),
            EventRegistration("Node", Action.ADD | Action.UPDATE_NODE_LABEL),
            EventRegistration("PersistentVolumeClaim", changed, claim_is_used),
            EventRegistration("PersistentVolume", changed, _topology_changed),
        )


def topologies_of(volume: Obj) -> list[Topology]:
    """(label, allowed values); several zones are separated by ``__``."""
    labels = meta(volume).get("labels") or {}
    return [
        (label, frozenset(part.strip() for part in labels[label].split("__")))
        for label in TOPOLOGY_LABELS
        if label in labels and all(part.strip() for part in labels[label].split("__"))
    ]


def _claim_names(pod: Obj) -> list[str]:
    volumes = get_nested(pod, "spec", "volumes", default=())
    return [
        v["persistentVolumeClaim"].get("claimName") or ""
        for v in volumes
        if v.get("persistentVolumeClaim") is not None
    ]


def _refusal(text: str) -> Status:
    return Status(Code.UNRESOLVABLE, (text,))


def _class_waits(pod: PodInfo, old: Any, new: Any) -> bool:
    return bool(new.get("volumeBindingMode") == WAIT_FOR_FIRST_CONSUMER)


def _topology_changed(pod: PodInfo, old: Any, new: Any) -> bool:
    return old is None or topologies_of(old) != topologies_of(new)
