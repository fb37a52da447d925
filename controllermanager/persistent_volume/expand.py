"""Grows volumes whose claims ask for more. A local-path directory has no size: it just grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, copy_object, get_nested, uid_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.volume_binding import (
    PROVISIONED_BY,
    annotations_of,
    capacity_of,
    requested_size,
)
from pilothouse.controllermanager.controller import Controller, SyncError, with_status
from pilothouse.controllermanager.persistent_volume.local_path import PROVISIONER
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment


def wants_more(claim: Obj) -> bool:
    """Whether a bound claim asks for more than its volume is known to have."""
    if get_nested(claim, "status", "phase") != "Bound":
        return False
    has = get_nested(claim, "status", "capacity", "storage")
    return has is not None and Quantity.parse(has) < requested_size(claim)


def grown_status(claim: Obj) -> Obj:
    """The claim's status when its volume has the size that it asks for."""
    status = copy_object(claim["status"])
    status["capacity"] = {
        **(status.get("capacity") or {}),
        "storage": claim["spec"]["resources"]["requests"]["storage"],
    }
    status["conditions"] = [
        c for c in status.get("conditions") or ()
        if c["type"] not in ("Resizing", "FileSystemResizePending")
    ]  # fmt: skip
    for field in ("conditions", "allocatedResourceStatuses"):
        if not status.get(field):
            status.pop(field, None)
    return status  # type: ignore[no-any-return]


class VolumeExpander(Controller):
    name = "persistentvolume-expander-controller"
    max_retries = None

    def __init__(self, env: Environment) -> None:
        super().__init__(env, component="volume_expand")
        self._claims = self.watch(
            PERSISTENT_VOLUME_CLAIMS, self._changed, lambda _, new: self._changed(new)
        )
        self._volumes = self.watch(PERSISTENT_VOLUMES)

    def _changed(self, claim: Obj) -> None:
        if wants_more(claim):
            self.enqueue(claim)

    async def sync(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None or not wants_more(claim):
            return
        volume = self._volumes.get(claim["spec"].get("volumeName") or "")
        if volume is None or get_nested(volume, "spec", "claimRef", "uid") != uid_of(claim):
            raise SyncError(f"persistent Volume is not bound to PVC being updated : {key}")
        if annotations_of(volume).get(PROVISIONED_BY) != PROVISIONER:
            message = "waiting for an external controller to expand this PVC"
            self.recorder.event(claim, "Normal", "ExternalExpanding", message)
            return
        if capacity_of(volume) < requested_size(claim):
            new = copy_object(volume)
            new["spec"]["capacity"]["storage"] = claim["spec"]["resources"]["requests"]["storage"]
            await self.client.update(PERSISTENT_VOLUMES, new)
        new = with_status(claim, grown_status(claim))
        await self.client.update(PERSISTENT_VOLUME_CLAIMS, new, subresource="status")
        message = f"Resize volume {claim['spec']['volumeName']} succeeded"
        self.recorder.event(claim, "Normal", "VolumeResizeSuccessful", message)
