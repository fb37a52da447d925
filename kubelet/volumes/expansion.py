"""Online expansion: the filesystem of a claim that a pod uses grows with its PersistentVolume.

Whoever grows the device (an administrator, for local volumes) raises the volume's capacity; the
kubelet then grows the filesystem and tells it in the claim's status (NodeExpandVolume).
"""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS
from pilothouse.kubelet.volumes.claims import ClaimedVolume
from pilothouse.kubelet.volumes.device_mounts import DeviceMounts

OVER = ("Resizing", "FileSystemResizePending", "NodeResizeError", "ControllerResizeError")
"""Conditions of a claim that no longer hold."""


async def expand(
    client: Client, namespace: str, claim_name: str, claimed: ClaimedVolume, devices: DeviceMounts
) -> bool:
    """Whether the filesystem has grown. :raises MountError: it could not; StatusError: the API."""
    volume = claimed.volume
    claim = await client.get(PERSISTENT_VOLUME_CLAIMS, claim_name, namespace)
    if claimed.readonly or not is_due(claim, volume):
        return False
    await devices.grow(volume)
    await client.patch(
        PERSISTENT_VOLUME_CLAIMS, claim_name, {"status": grown_status(claim, volume)},
        "application/merge-patch+json", namespace, subresource="status",
        field_manager="kubelet",
    )  # fmt: skip
    return True


def is_due(claim: Obj, volume: Obj) -> bool:
    """The volume has more than the claim was told, and all that the claim wants."""
    has = _storage(get_nested(claim, "status", "capacity"))
    given = _storage(volume["spec"].get("capacity"))
    wanted = _storage(get_nested(claim, "spec", "resources", "requests"))
    return has < given and wanted <= given


def grown_status(claim: Obj, volume: Obj) -> Obj:
    """A merge patch of the claim's status."""
    conditions = (claim.get("status") or {}).get("conditions") or ()
    return {
        "capacity": {"storage": volume["spec"]["capacity"]["storage"]},
        "allocatedResourceStatuses": None,
        "conditions": [c for c in conditions if c["type"] not in OVER] or None,
    }


def _storage(resources: Obj | None) -> Quantity:
    return Quantity.parse((resources or {}).get("storage") or 0)
