"""Makes the claims of generic ephemeral volumes: one a volume, owned by its pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apis.core.volume_binding import (
    claim_keys_of,
    claim_name_of,
    ephemeral_claim_problem,
)
from pilothouse.controllermanager.controller import Controller, SyncError
from pilothouse.controllermanager.persistent_volume.binder import PODS_BY_CLAIM
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS, PODS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment


def ephemeral_volumes(pod: Obj) -> list[Obj]:
    volumes = get_nested(pod, "spec", "volumes", default=())
    return [v for v in volumes if v.get("ephemeral") is not None]


def make_claim(pod: Obj, volume: Obj) -> Obj:
    template = volume["ephemeral"].get("volumeClaimTemplate") or {}
    metadata = {
        key: copy_object(value)
        for key, value in (template.get("metadata") or {}).items()
        if key in ("annotations", "labels")
    }
    owner = {
        "apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod),
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            **metadata,
            "name": claim_name_of(pod, volume),
            "namespace": namespace_of(pod),
            "ownerReferences": [owner],
        },
        "spec": copy_object(template.get("spec") or {}),
    }


class EphemeralVolumeController(Controller):
    name = "ephemeral-volume-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers, component="ephemeral_volume")
        self._pods = self.watch(PODS, self._pod_seen)
        self._pods.add_index(PODS_BY_CLAIM, claim_keys_of)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS, on_delete=self._claim_deleted)

    def _pod_seen(self, pod: Obj) -> None:
        if not meta(pod).get("deletionTimestamp") and ephemeral_volumes(pod):
            self.enqueue(pod)

    def _claim_deleted(self, claim: Obj) -> None:
        for pod in self._pods.by_index(PODS_BY_CLAIM, object_key(claim)):
            self._pod_seen(pod)

    async def sync(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or meta(pod).get("deletionTimestamp"):
            return
        for volume in ephemeral_volumes(pod):
            problem = await self._make(pod, volume)
            if problem:
                message = f"ephemeral volume {volume['name']}: {problem}"
                self.recorder.event(pod, "Warning", "FailedBinding", message)
                raise SyncError(f"pod {key}, {message}")

    async def _make(self, pod: Obj, volume: Obj) -> str:
        """What went wrong; '' when the claim is there."""
        wanted = make_claim(pod, volume)
        present = self._claims.get(object_key(wanted))
        if present is not None:
            return ephemeral_claim_problem(pod, present)
        try:
            await self.client.create(PERSISTENT_VOLUME_CLAIMS, wanted, namespace_of(pod))
        except StatusError as error:
            return f"create PVC {name_of(wanted)}: {error}"
        return ""
