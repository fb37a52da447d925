"""Lets go of deleted claims, volumes and attribute classes once nothing uses them.

Admission (StorageObjectInUseProtection) gives each of them a finalizer; a deletion then only marks
them, and these controllers take the finalizer away when the last user is gone. Users are scheduled
pods of a claim, a claim of a volume, claims and volumes of an attributes class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
)
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTRIBUTES_CLASSES,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.interfaces import Environment


def claims_of(pod: Obj) -> set[str]:
    """Names of the claims that a pod mounts, its ephemeral ones too."""
    names = set()
    for volume in get_nested(pod, "spec", "volumes", default=()):
        if claim := volume.get("persistentVolumeClaim"):
            names.add(claim.get("claimName", ""))
        elif "ephemeral" in volume:
            names.add(f"{name_of(pod)}-{volume['name']}")
    return names


def uses_claim(pod: Obj, claim: Obj) -> bool:
    """Only scheduled pods count: no kubelet starts a pod whose claim is being deleted."""
    return bool(get_nested(pod, "spec", "nodeName")) and name_of(claim) in claims_of(pod)


def attribute_classes_of(obj: Obj) -> set[str]:
    """Attribute classes that a claim or a volume has, had or asks for."""
    names = {
        get_nested(obj, "spec", "volumeAttributesClassName"),
        get_nested(obj, "status", "currentVolumeAttributesClassName"),
        get_nested(obj, "status", "modifyVolumeStatus", "targetVolumeAttributesClassName"),
    }
    return {name for name in names if name}


class ProtectionController(Controller):
    """``finalizer`` guards ``resource``; a subclass knows who the users are."""

    finalizer: ClassVar[str]
    resource: ClassVar[GroupVersionResource]
    max_retries = None

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._guarded = self.watch(self.resource, self._changed, lambda _, new: self._changed(new))

    def _changed(self, obj: Obj) -> None:
        if self._is_deleted(obj) == self._is_held(obj):
            self.enqueue(obj)

    def _is_held(self, obj: Obj) -> bool:
        return self.finalizer in (meta(obj).get("finalizers") or ())

    @staticmethod
    def _is_deleted(obj: Obj) -> bool:
        return bool(meta(obj).get("deletionTimestamp"))

    def _is_pending(self, obj: Obj) -> bool:
        return self._is_deleted(obj) and self._is_held(obj)

    async def is_used(self, obj: Obj) -> bool:
        raise AssertionError(f"{self.name} does not know the users")

    async def sync(self, key: str) -> None:
        obj = self._guarded.get(key)
        if obj is None or self._is_deleted(obj) != self._is_held(obj):
            return
        finalizers = list(meta(obj).get("finalizers") or ())
        if not self._is_deleted(obj):
            # Made before admission gave finalizers.
            finalizers.append(self.finalizer)
        elif await self.is_used(obj):
            return
        else:
            finalizers.remove(self.finalizer)
        new = copy_object(obj)
        new["metadata"]["finalizers"] = finalizers
        await self.client.update(self.resource, new)


class ClaimProtectionController(ProtectionController):
    name = "persistentvolumeclaim-protection-controller"
    finalizer = "kubernetes.io/pvc-protection"
    resource = PERSISTENT_VOLUME_CLAIMS

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._pods = self.watch(
            PODS, on_update=lambda old, new: self._pod_changed(new), on_delete=self._pod_changed
        )

    def _pod_changed(self, pod: Obj) -> None:
        for name in claims_of(pod):
            claim = self._guarded.get(f"{namespace_of(pod)}/{name}")
            if claim is not None and self._is_pending(claim):
                self.enqueue(claim)

    async def is_used(self, obj: Obj) -> bool:
        namespace = namespace_of(obj)
        if any(uses_claim(pod, obj) for pod in self._pods.list(namespace)):
            return True
        # A pod may be there already that the informer hasn't seen.
        live = await self.client.list(PODS, namespace)
        return any(uses_claim(pod, obj) for pod in live.items)


class VolumeProtectionController(ProtectionController):
    name = "persistentvolume-protection-controller"
    finalizer = "kubernetes.io/pv-protection"
    resource = PERSISTENT_VOLUMES

    async def is_used(self, obj: Obj) -> bool:
        return bool(get_nested(obj, "status", "phase") == "Bound")


class AttributesClassProtectionController(ProtectionController):
    name = "volumeattributesclass-protection-controller"
    finalizer = "kubernetes.io/vac-protection"
    resource = VOLUME_ATTRIBUTES_CLASSES

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._users = [
            self.watch(resource, on_update=lambda old, _: self._left(old), on_delete=self._left)
            for resource in (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES)
        ]

    def _left(self, user: Obj) -> None:
        for name in attribute_classes_of(user):
            attributes_class = self._guarded.get(name)
            if attributes_class is not None and self._is_pending(attributes_class):
                self.enqueue(attributes_class)

    async def is_used(self, obj: Obj) -> bool:
        users = (user for informer in self._users for user in informer.list())
        return any(name_of(obj) in attribute_classes_of(user) for user in users)
