"""Lets go of deleted claims, volumes and attribute classes once nothing uses them.

Admission (StorageObjectInUseProtection) gives each of them a finalizer; a deletion then only marks
them, and these controllers take the finalizer away when the last user is gone. Users are scheduled
pods of a claim, a claim of a volume, claims and volumes of an attributes class. A bound claim's
condition Unused tells whether any pod that is not over refers to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    controller_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from pilothouse.controllermanager.controller import Controller, with_status
from pilothouse.controllermanager.pods import is_terminal
from pilothouse.kubeclient.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTRIBUTES_CLASSES,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.interfaces import Environment

UNUSED = "Unused"
"""A claim's condition."""


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


def refers_to(pod: Obj, claim: Obj) -> bool:
    """Whether the pod keeps the claim from counting as unused; it need not be scheduled."""
    if name_of(claim) not in claims_of(pod) or _is_over(pod):
        return False
    if any(
        get_nested(volume, "persistentVolumeClaim", "claimName") == name_of(claim)
        for volume in get_nested(pod, "spec", "volumes", default=())
    ):
        return True
    owner = controller_of(claim)  # an ephemeral volume's
    return owner is not None and owner.get("uid") == uid_of(pod)


def _is_over(pod: Obj) -> bool:
    """Ended, or deleted with no container running any more."""
    if is_terminal(pod):
        return True
    states = get_nested(pod, "status", "containerStatuses", default=())
    return bool(meta(pod).get("deletionTimestamp")) and not any(
        "running" in (status.get("state") or {}) for status in states
    )


def unused_condition(claim: Obj, used: bool, now: str) -> Obj | None:
    """The condition to write; None: it tells the truth already."""
    old = condition_of(claim, UNUSED)
    if old is not None and used == (old.get("status") != "True"):
        return None
    if used:
        told = ("False", "PodUsingPVC", "A pod is currently referencing this PVC")
    else:
        told = ("True", "NoPodsUsingPVC", "No pods are currently referencing this PVC")
    status, reason, message = told
    return {
        "type": UNUSED,
        "status": status,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


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
            PODS, self._pod_changed, lambda _, new: self._pod_changed(new), self._pod_changed
        )

    def _changed(self, obj: Obj) -> None:
        if _is_bound(obj) and condition_of(obj, UNUSED) is None:
            self.enqueue(obj)
        super()._changed(obj)

    def _pod_changed(self, pod: Obj) -> None:
        for name in claims_of(pod):
            claim = self._guarded.get(f"{namespace_of(pod)}/{name}")
            if claim is not None:
                self.enqueue(claim)

    async def sync(self, key: str) -> None:
        claim = self._guarded.get(key)
        if claim is not None and _is_bound(claim) and not self._is_deleted(claim):
            used = await self._has_user(claim, refers_to)
            condition = unused_condition(claim, used, self.timestamp())
            if condition is not None:
                await self._write_condition(claim, condition)
        await super().sync(key)

    async def _write_condition(self, claim: Obj, condition: Obj) -> None:
        status = claim.get("status") or {}
        others = [c for c in status.get("conditions") or () if c.get("type") != UNUSED]
        new = with_status(claim, {**status, "conditions": [*others, condition]})
        await self.client.update(PERSISTENT_VOLUME_CLAIMS, new, subresource="status")

    async def is_used(self, obj: Obj) -> bool:
        return await self._has_user(obj, uses_claim)

    async def _has_user(self, claim: Obj, uses: Callable[[Obj, Obj], bool]) -> bool:
        namespace = namespace_of(claim)
        if any(uses(pod, claim) for pod in self._pods.list(namespace)):
            return True
        # A pod may be there already that the informer hasn't seen.
        live = await self.client.list(PODS, namespace)
        return any(uses(pod, claim) for pod in live.items)


def _is_bound(claim: Obj) -> bool:
    return bool(get_nested(claim, "status", "phase") == "Bound")


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
