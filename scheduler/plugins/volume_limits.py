"""NodeVolumeLimits: no more volumes of a CSI driver on a node than its CSINode allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.apis.core.volume_binding import claim_keys_of, class_of
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import Action, EventRegistration
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import SKIP, Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.plugins.volume_binding import claim_is_used
from pilothouse.scheduler.plugins.volume_lister import shared_lister

EXCEEDED = Status(Code.UNSCHEDULABLE, ("node(s) exceed max volume count",))


class NodeVolumeLimits:
    name = "NodeVolumeLimits"

    def __init__(self, handle: Handle) -> None:
        self._lister = shared_lister(handle)

    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        return None if pod.memo(self.name, claim_keys_of) else SKIP

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        missing = next((k for k in self._keys(pod) if self._lister.claims.get(k) is None), None)
        if missing is not None:
            name = missing.rpartition("/")[2]
            text = f'looking up PVC {missing}: persistentvolumeclaim "{name}" not found'
            return Status(Code.UNRESOLVABLE, (text,))
        wanted = self._volumes_of(pod)
        limits = limits_of(self._lister.csi_nodes.get(node.name)) if wanted else {}
        if not limits:
            return None
        attached: dict[str, str] = {}
        for other in node.pods.values():
            attached |= self._volumes_of(other)
        attached |= self._attachments(node.name)
        present = Counter(attached.values())
        added = Counter(driver for key, driver in wanted.items() if key not in attached)
        for driver, count in added.items():
            if driver in limits and present[driver] + count > limits[driver]:
                return EXCEEDED
        return None

    def _keys(self, pod: PodInfo) -> list[str]:
        keys: list[str] = pod.memo(self.name, claim_keys_of)
        return keys

    def _volumes_of(self, pod: PodInfo) -> dict[str, str]:
        """Driver by unique name of each CSI volume that the pod has or will have."""
        found = {}
        for key in self._keys(pod):
            claim = self._lister.claims.get(key)
            if claim is None:
                continue
            volume = self._lister.volumes.get(claim["spec"].get("volumeName") or "")
            if volume is not None:
                csi = volume["spec"].get("csi")
                if csi:
                    found[f"{csi['driver']}/{csi['volumeHandle']}"] = csi["driver"]
                continue
            # It will come from the class's provisioner: a volume of its own.
            storage_class = self._lister.classes.get(class_of(claim))
            if storage_class is not None and storage_class.get("provisioner"):
                driver = storage_class["provisioner"]
                found[f"{driver}/{class_of(claim)}-{key}"] = driver
        return found

    def _attachments(self, node_name: str) -> dict[str, str]:
        found = {}
        for attachment in self._lister.attachments.list():
            if get_nested(attachment, "spec", "nodeName") != node_name:
                continue
            name = get_nested(attachment, "spec", "source", "persistentVolumeName", default="")
            volume = self._lister.volumes.get(name)
            csi = volume["spec"].get("csi") if volume is not None else None
            if csi:
                found[f"{csi['driver']}/{csi['volumeHandle']}"] = csi["driver"]
        return found

    def events_to_register(self) -> Iterable[EventRegistration]:
        return (
            EventRegistration("CSINode", Action.ADD | Action.UPDATE, _limit_grew),
            EventRegistration("AssignedPod", Action.DELETE, _had_volumes),
            EventRegistration("PersistentVolumeClaim", Action.ADD, claim_is_used),
            EventRegistration("VolumeAttachment", Action.DELETE),
        )


def limits_of(csi_node: Obj | None) -> dict[str, int]:
    drivers = get_nested(csi_node, "spec", "drivers", default=())
    counts = {d["name"]: get_nested(d, "allocatable", "count") for d in drivers}
    return {name: count for name, count in counts.items() if count is not None}


def _limit_grew(pod: PodInfo, old: Any, new: Any) -> bool:
    before = limits_of(old)
    return old is None or any(n > before.get(driver, 0) for driver, n in limits_of(new).items())


def _had_volumes(pod: PodInfo, old: Any, new: Any) -> bool:
    gone = old or new
    return bool(claim_keys_of(gone))
