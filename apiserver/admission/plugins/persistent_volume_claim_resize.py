"""PersistentVolumeClaimResize: a claim grows only if its storage class allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import get_nested
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apiserver.admission.plugin import Plugin, refuse
from pilothouse.apiserver.admission.plugins.default_storage_class import STORAGE_CLASSES

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.quantity import Quantity
    from pilothouse.apiserver.admission.interfaces import Attributes

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


class PersistentVolumeClaimResize(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        claim, old = attributes.obj, attributes.old_obj
        if claim is None or old is None or _size(claim) <= _size(old):
            return
        if get_nested(old, "status", "phase") != "Bound":
            raise refuse(attributes, "Only bound persistent volume claims can be expanded")
        name = _class_of(claim)
        listers = await self.listed(STORAGE_CLASSES)
        storage_class = listers.get(STORAGE_CLASSES, "", name) if name else None
        allowed = bool((storage_class or {}).get("allowVolumeExpansion"))
        if not allowed or name != _class_of(old):
            raise refuse(
                attributes,
                "only dynamically provisioned pvc can be resized and the storageclass that "
                "provisions the pvc must support resize",
            )


def _size(claim: Obj) -> Quantity:
    return parse_quantity(
        get_nested(claim, "spec", "resources", "requests", "storage", default="0")
    )


def _class_of(claim: Obj) -> str:
    annotations = claim["metadata"].get("annotations") or {}
    named = annotations.get(_CLASS_ANNOTATION) or get_nested(claim, "spec", "storageClassName")
    return str(named or "")


PLUGINS = {"PersistentVolumeClaimResize": PersistentVolumeClaimResize}
