"""The persistent volume binder: brings claims and volumes together and lets go of them.

One worker: each binding sees the one before, so a volume is never given away twice.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    name_of,
    object_key,
    uid_of,
)
from pilothouse.apis.core.volume_binding import (
    BETA_STORAGE_PROVISIONER,
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    STORAGE_PROVISIONER,
    annotations_of,
    bound_volume,
    claim_keys_of,
    class_of,
    with_annotation,
)
from pilothouse.controllermanager.controller import Controller, SyncError, with_status
from pilothouse.controllermanager.persistent_volume import compute
from pilothouse.controllermanager.persistent_volume.latest import Latest
from pilothouse.kubeclient.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

PODS_BY_CLAIM = "pods by claim"
_VOLUME = "volume:"
_DELETABLE_HOST_PATH = re.compile(r"/tmp/.+")
MIGRATED_TO_CSI = {
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
    "kubernetes.io/azure-file": "file.csi.azure.com",
    "kubernetes.io/cinder": "cinder.csi.openstack.org",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/portworx-volume": "pxd.portworx.com",
    "kubernetes.io/vsphere-volume": "csi.vsphere.vmware.com",
}
"""Drivers that took the place of the plugins which Kubernetes had itself."""
EXTERNAL = (
    "Waiting for a volume to be created either by the external provisioner '{}' or manually by "
    "the system administrator. If volume creation is delayed, please verify that the provisioner "
    "is running and correctly registered."
)


class PersistentVolumeBinder(Controller):
    name = "persistentvolume-binder-controller"
    max_retries = None

    def __init__(self, env: Environment, *, resync: float = 15.0) -> None:
        super().__init__(env, component="persistentvolume-controller")
        self._resync = resync
        claims = self.watch(
            PERSISTENT_VOLUME_CLAIMS, self.enqueue, lambda _, new: self.enqueue(new),
            self._claim_deleted,
        )  # fmt: skip
        volumes = self.watch(
            PERSISTENT_VOLUMES, self._volume_changed, lambda _, new: self._volume_changed(new),
            self._volume_deleted,
        )  # fmt: skip
        self._claims, self._volumes = Latest(claims), Latest(volumes)
        self._classes = self.watch(
            STORAGE_CLASSES, self._class_changed, lambda _, new: self._class_changed(new)
        )
        self._pods = self.watch(PODS)
        self._pods.add_index(PODS_BY_CLAIM, claim_keys_of)

    # Events.

    def _claim_deleted(self, claim: Obj) -> None:
        self._claims.gone(claim)
        if claim["spec"].get("volumeName"):
            self.queue.add(_VOLUME + claim["spec"]["volumeName"])
        # A volume that was on its way to the claim.
        for volume in self._volumes.list():
            if get_nested(volume, "spec", "claimRef", "uid") == uid_of(claim):
                self.queue.add(_VOLUME + name_of(volume))

    def _volume_changed(self, volume: Obj) -> None:
        self.queue.add(_VOLUME + name_of(volume))

    def _volume_deleted(self, volume: Obj) -> None:
        self._volumes.gone(volume)
        reference = volume["spec"].get("claimRef")
        if reference:
            self.queue.add(f"{reference['namespace']}/{reference['name']}")

    def _class_changed(self, storage_class: Obj) -> None:
        """Claims that waited for the class, or for a default one."""
        for claim in self._claims.list():
            if BIND_COMPLETED not in annotations_of(claim):
                if class_of(claim) in ("", name_of(storage_class)):
                    self.enqueue(claim)

    # Syncs.

    async def sync(self, key: str) -> None:
        if key.startswith(_VOLUME):
            volume = self._volumes.get(key.removeprefix(_VOLUME))
            if volume is not None:
                await self._sync_volume(volume)
            return
        claim = self._claims.get(key)
        if claim is not None:
            await self._sync_claim(claim)

    async def _sync_claim(self, claim: Obj) -> None:
        requested = claim["spec"].get("volumeName") or ""
        around = compute.Surroundings(
            self._volumes.list(),
            self._volumes.get(requested) if requested else None,
            self._classes.get(class_of(claim)) if class_of(claim) else None,
            compute.default_class_of(self._classes.list()),
            self._waiting_pods(claim),
        )
        for intent in compute.plan_claim(claim, around):
            await self._do_for_claim(claim, intent)

    def _waiting_pods(self, claim: Obj) -> list[str]:
        users = self._pods.by_index(PODS_BY_CLAIM, object_key(claim))
        return sorted(
            name_of(pod)
            for pod in users
            if not pod["spec"].get("nodeName")
            and get_nested(pod, "status", "phase") not in ("Succeeded", "Failed")
        )

    async def _do_for_claim(self, claim: Obj, intent: compute.Intent) -> None:
        match intent:
            case compute.Bind(volume):
                await self._bind(volume, claim)
            case compute.ClaimPhase(phase):
                await self._set_claim_status(claim, phase, None)
            case compute.Lose(reason, message):
                if get_nested(claim, "status", "phase") != "Lost":
                    claim = await self._set_claim_status(claim, "Lost", None)
                    self.recorder.event(claim, "Warning", reason, message)
            case compute.AssignClass(name):
                new = copy_object(claim)
                new["spec"]["storageClassName"] = name
                await self._write_claim(new)
            case compute.Provision():
                await self._provision(claim)
            case compute.Tell(type_, reason, message):
                self.recorder.event(claim, type_, reason, message)
                # Nothing may happen that would tell us again: the user should hear it again.
                self.queue.add_after(object_key(claim), self._resync, upkeep=True)
            case compute.Trouble(message):
                raise SyncError(message)

    async def _sync_volume(self, volume: Obj) -> None:
        claim = await self._claim_of(volume)
        for intent in compute.plan_volume(volume, claim):
            match intent:
                case compute.VolumePhase(phase, message):
                    volume = await self._set_volume_phase(volume, phase, message)
                    self._offer(volume, phase)
                case compute.Reclaim():
                    await self._reclaim(volume)
                case compute.Unbind():
                    await self._unbind(volume)
                case compute.SyncClaim() if claim is not None:
                    self.enqueue(claim)
                case compute.Tell(type_, reason, message, about_claim):
                    about = claim if about_claim and claim is not None else volume
                    self.recorder.event(about, type_, reason, message)

    async def _claim_of(self, volume: Obj) -> Obj | None:
        """By name. One that we have not seen, or have seen with another uid, is looked up:
        a volume must not be reclaimed because an informer is late."""
        reference = volume["spec"].get("claimRef")
        if not reference:
            return None
        namespace, name = reference.get("namespace") or "", reference.get("name") or ""
        claim = self._claims.get(f"{namespace}/{name}")
        wanted = reference.get("uid")
        if not wanted or (claim is not None and uid_of(claim) == wanted):
            return claim
        if claim is None and get_nested(volume, "status", "phase") in ("Released", "Failed"):
            return None
        try:
            return await self.client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise

    def _offer(self, volume: Obj, phase: str) -> None:
        """A volume that is available may be what pending claims wait for."""
        if phase != "Available":
            return
        for claim in self._claims.list():
            if BIND_COMPLETED in annotations_of(claim):
                continue
            named = claim["spec"].get("volumeName")
            if named == name_of(volume) or (not named and class_of(claim) == class_of(volume)):
                self.enqueue(claim)

    # Binding.

    async def _bind(self, volume: Obj, claim: Obj) -> None:
        changed = bound_volume(volume, claim)
        if changed is not None:
            volume = await self._write_volume(changed)
        volume = await self._set_volume_phase(volume, "Bound")
        claim = await self._point_at(claim, volume)
        await self._set_claim_status(claim, "Bound", volume)

    async def _point_at(self, claim: Obj, volume: Obj) -> Obj:
        new = claim
        if claim["spec"].get("volumeName") != name_of(volume):
            new = with_annotation(claim, BOUND_BY_CONTROLLER, "yes")
            new["spec"]["volumeName"] = name_of(volume)
        if BIND_COMPLETED not in annotations_of(claim):
            new = with_annotation(new, BIND_COMPLETED, "yes")
        return claim if new is claim else await self._write_claim(new)

    async def _unbind(self, volume: Obj) -> None:
        new = copy_object(volume)
        if BOUND_BY_CONTROLLER in annotations_of(volume):
            del new["spec"]["claimRef"]
            del new["metadata"]["annotations"][BOUND_BY_CONTROLLER]
        else:
            new["spec"]["claimRef"].pop("uid", None)
        await self._set_volume_phase(await self._write_volume(new), "Available")

    # Provisioning and reclaiming. Provisioners are controllers of their own.

    async def _provision(self, claim: Obj) -> None:
        name = class_of(claim)
        storage_class = self._classes.get(name)
        if storage_class is None:
            message = f'storageclass.storage.k8s.io "{name}" not found'
            self.recorder.event(claim, "Warning", "ProvisioningFailed", message)
            await self._set_claim_status(claim, "Pending", None)
            return
        named: str = storage_class["provisioner"]
        provisioner = MIGRATED_TO_CSI.get(named, named)
        if provisioner.startswith("kubernetes.io/"):
            message = f"no volume plugin matched name: {provisioner}"
            self.recorder.event(claim, "Warning", "ProvisioningFailed", message)
            return
        if annotations_of(claim).get(STORAGE_PROVISIONER) != provisioner:
            new = with_annotation(claim, BETA_STORAGE_PROVISIONER, provisioner)
            claim = await self._write_claim(with_annotation(new, STORAGE_PROVISIONER, provisioner))
        self.recorder.event(claim, "Normal", "ExternalProvisioning", EXTERNAL.format(provisioner))

    async def _reclaim(self, volume: Obj) -> None:
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if policy == "Delete":
            await self._delete(volume)
        elif policy == "Recycle":
            message = "No recycler plugin found for the volume!"
            await self._fail(volume, "VolumeFailedRecycle", message)
        elif policy != "Retain":
            message = "Volume has unrecognized PersistentVolumeReclaimPolicy"
            await self._fail(volume, "VolumeUnknownReclaimPolicy", message)

    async def _delete(self, volume: Obj) -> None:
        provisioner = annotations_of(volume).get(PROVISIONED_BY) or ""
        if volume["spec"].get("csi") or (
            provisioner and not provisioner.startswith("kubernetes.io/")
        ):
            return  # its provisioner does it
        path = get_nested(volume, "spec", "hostPath", "path")
        if path is None:
            message = (
                f'error getting deleter volume plugin for volume "{name_of(volume)}": '
                "no deletable volume plugin matched"
            )
            await self._fail(volume, "VolumeFailedDelete", message)
        elif not _DELETABLE_HOST_PATH.fullmatch(path):
            message = f"host_path deleter only supports /tmp/.+ but received provided {path}"
            await self._fail(volume, "VolumeFailedDelete", message)
        else:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            await self.client.delete(PERSISTENT_VOLUMES, name_of(volume))

    async def _fail(self, volume: Obj, reason: str, message: str) -> None:
        if get_nested(volume, "status", "phase") != "Failed":
            volume = await self._set_volume_phase(volume, "Failed", message)
            self.recorder.event(volume, "Warning", reason, message)

    # Writing.

    async def _write_claim(self, claim: Obj) -> Obj:
        return self._claims.wrote(await self.client.update(PERSISTENT_VOLUME_CLAIMS, claim))

    async def _write_volume(self, volume: Obj) -> Obj:
        return self._volumes.wrote(await self.client.update(PERSISTENT_VOLUMES, volume))

    async def _set_claim_status(self, claim: Obj, phase: str, volume: Obj | None) -> Obj:
        status = compute.claim_status(claim, phase, volume)
        if status is None:
            return claim
        new = with_status(claim, status)
        return self._claims.wrote(
            await self.client.update(PERSISTENT_VOLUME_CLAIMS, new, subresource="status")
        )

    async def _set_volume_phase(self, volume: Obj, phase: str, message: str = "") -> Obj:
        old: dict[str, Any] = volume.get("status") or {}
        if old.get("phase") == phase:
            return volume
        status = {**old, "phase": phase}
        status.pop("message", None)
        if message:
            status["message"] = message
        new = with_status(volume, status)
        return self._volumes.wrote(
            await self.client.update(PERSISTENT_VOLUMES, new, subresource="status")
        )
