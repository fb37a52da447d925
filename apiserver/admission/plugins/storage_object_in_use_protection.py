"""StorageObjectInUseProtection: volumes and claims in use are not deleted at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import Plugin

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes

_FINALIZERS = {
    "persistentvolumes": "kubernetes.io/pv-protection",
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "volumeattributesclasses": "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        finalizer = _FINALIZERS.get(attributes.resource.resource)
        if attributes.obj is None or finalizer is None:
            return
        metadata = attributes.obj["metadata"]
        present = metadata.get("finalizers") or []
        if finalizer not in present:
            metadata["finalizers"] = [*present, finalizer]


PLUGINS = {"StorageObjectInUseProtection": StorageObjectInUseProtection}
