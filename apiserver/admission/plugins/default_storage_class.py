"""DefaultStorageClass: claims that name no class get the newest default one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes

STORAGE_CLASSES = GroupResource("storage.k8s.io", "storageclasses")
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


class DefaultStorageClass(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        claim = attributes.obj
        if claim is None or _CLASS_ANNOTATION in (claim["metadata"].get("annotations") or {}):
            return
        spec = claim.get("spec") or {}
        if spec.get("storageClassName") is not None:
            return
        listers = await self.listed(STORAGE_CLASSES)
        chosen = newest_default(listers.list(STORAGE_CLASSES), _DEFAULT_ANNOTATIONS)
        if chosen is not None:
            claim.setdefault("spec", {})["storageClassName"] = chosen["metadata"]["name"]


def newest_default(classes: Iterable[Obj], annotations: tuple[str, ...]) -> Obj | None:
    """The class marked as default; of several the newest, then the first by name."""
    defaults = [
        obj
        for obj in classes
        if any((obj["metadata"].get("annotations") or {}).get(key) == "true" for key in annotations)
    ]
    defaults.sort(key=lambda obj: obj["metadata"]["name"])
    return max(defaults, key=lambda o: o["metadata"].get("creationTimestamp") or "", default=None)


PLUGINS = {"DefaultStorageClass": DefaultStorageClass}
