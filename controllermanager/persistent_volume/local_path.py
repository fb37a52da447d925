"""Provisions volumes that are directories on a node: ``pilothouse.dev/local-path``.

Claims of a class with this provisioner get a PersistentVolume on the node that the scheduler has
selected (or, with immediate binding, the node with the fewest such volumes). The kubelet makes
the directory when it first mounts it; this controller removes it when a volume is to be deleted.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apis.core.volume_binding import (
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    SELECTED_NODE,
    STORAGE_PROVISIONER,
    annotations_of,
    claim_reference,
    class_of,
    is_delayed,
    volume_mode,
)
from pilothouse.controllermanager.controller import Controller, SyncError
from pilothouse.kubeclient.resources import (
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
)

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

PROVISIONER = "pilothouse.dev/local-path"
HOSTNAME = "kubernetes.io/hostname"
_VOLUME = "volume:"


def default_storage_class() -> Obj:
    """The class ``standard`` of a new cluster."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def refusal(claim: Obj) -> str:
    """Why no directory can be what the claim wants; '' when one can."""
    spec = claim["spec"]
    if volume_mode(claim) == "Block":
        return "block volumes are not supported"
    if spec.get("selector"):
        return "claim.Spec.Selector is not supported"
    if spec.get("dataSource") or spec.get("dataSourceRef"):
        return "data sources are not supported"
    return ""


def wants_volume(claim: Obj) -> bool:
    return (
        annotations_of(claim).get(STORAGE_PROVISIONER) == PROVISIONER
        and not claim["spec"].get("volumeName")
        and not meta(claim).get("deletionTimestamp")
    )


def must_go(volume: Obj) -> bool:
    """Whether the volume and its directory are to be deleted."""
    return (
        annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER
        and get_nested(volume, "status", "phase") == "Released"
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    )


def make_volume(claim: Obj, storage_class: Obj, node: Obj, root: str) -> Obj:
    """The PersistentVolume for the claim, on that node."""
    name = f"pvc-{uid_of(claim)}"
    folder = f"{name}_{namespace_of(claim)}_{name_of(claim)}"
    hostname = (meta(node).get("labels") or {}).get(HOSTNAME) or name_of(node)
    on_node = {"key": HOSTNAME, "operator": "In", "values": [hostname]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: PROVISIONER, BOUND_BY_CONTROLLER: "yes"},
        },
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": list(claim["spec"].get("accessModes") or ()),
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": class_of(claim),
            "volumeMode": "Filesystem",
            "hostPath": {
                "path": os.path.join(root, name_of(node), "local-path", folder),
                "type": "DirectoryOrCreate",
            },
            "claimRef": claim_reference(claim),
            "nodeAffinity": {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}
            },
        },
    }  # fmt: skip


def pick_node(nodes: Sequence[Obj], volumes: Sequence[Obj]) -> Obj | None:
    """Of the nodes that are ready and take pods, the one with the fewest of our volumes."""
    counts: dict[str, int] = {}
    for volume in volumes:
        if annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER:
            path = get_nested(volume, "spec", "hostPath", "path", default="")
            node = os.path.basename(os.path.dirname(os.path.dirname(path)))
            counts[node] = counts.get(node, 0) + 1
    usable = [
        node for node in nodes
        if not get_nested(node, "spec", "unschedulable")
        and (condition_of(node, "Ready") or {}).get("status") == "True"
    ]  # fmt: skip
    return min(usable, key=lambda n: (counts.get(name_of(n), 0), name_of(n)), default=None)


def remove_directory(root: str, path: str, volume_name: str) -> bool:
    """Whether a volume's directory is gone. Only what this provisioner has made is touched: a
    user may have written anything into the object."""
    path = os.path.normpath(path)
    if not path.startswith(root + os.sep) or volume_name not in os.path.basename(path):
        return True
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


class LocalPathProvisioner(Controller):
    name = "local-path-provisioner-controller"
    max_retries = None

    def __init__(self, env: Environment, *, root: str) -> None:
        super().__init__(env, component="local-path-provisioner")
        self._root = root
        self._claims = self.watch(
            PERSISTENT_VOLUME_CLAIMS, self._claim_changed, lambda _, new: self._claim_changed(new)
        )
        self._volumes = self.watch(
            PERSISTENT_VOLUMES, self._volume_changed, lambda _, new: self._volume_changed(new)
        )
        self._classes = self.watch(STORAGE_CLASSES)
        self._nodes = self.watch(NODES)

    def _claim_changed(self, claim: Obj) -> None:
        if wants_volume(claim):
            self.enqueue(claim)

    def _volume_changed(self, volume: Obj) -> None:
        if must_go(volume):
            self.queue.add(_VOLUME + name_of(volume))

    async def sync(self, key: str) -> None:
        if key.startswith(_VOLUME):
            volume = self._volumes.get(key.removeprefix(_VOLUME))
            if volume is not None and must_go(volume):
                await self._delete(volume)
            return
        claim = self._claims.get(key)
        if claim is not None and wants_volume(claim):
            await self._provision(claim)

    async def _provision(self, claim: Obj) -> None:
        storage_class = self._classes.get(class_of(claim))
        if storage_class is None or self._volumes.get(f"pvc-{uid_of(claim)}") is not None:
            return
        selected = annotations_of(claim).get(SELECTED_NODE)
        if is_delayed(storage_class) and not selected:
            return
        problem = refusal(claim)
        if problem:
            self._failed(claim, problem)
            return
        node = self._nodes.get(selected) if selected else self._any_node()
        if node is None:
            await self._without_node(claim, selected)
            return
        message = f'External provisioner is provisioning volume for claim "{object_key(claim)}"'
        self.recorder.event(claim, "Normal", "Provisioning", message)
        volume = make_volume(claim, storage_class, node, self._root)
        try:
            await self.client.create(PERSISTENT_VOLUMES, volume)
        except StatusError as error:
            if not is_already_exists(error):
                self._failed(claim, str(error))
                raise
            return
        message = f"Successfully provisioned volume {name_of(volume)}"
        self.recorder.event(claim, "Normal", "ProvisioningSucceeded", message)

    def _any_node(self) -> Obj | None:
        return pick_node(self._nodes.list(), self._volumes.list())

    async def _without_node(self, claim: Obj, selected: str | None) -> None:
        if not selected:
            self._failed(claim, "no node is ready")
            raise SyncError("no node is ready")
        # The node is gone: the scheduler must choose again.
        self._failed(claim, f'node "{selected}" not found')
        new = copy_object(claim)
        del new["metadata"]["annotations"][SELECTED_NODE]
        await self.client.update(PERSISTENT_VOLUME_CLAIMS, new)

    def _failed(self, claim: Obj, problem: str) -> None:
        message = f'failed to provision volume with StorageClass "{class_of(claim)}": {problem}'
        self.recorder.event(claim, "Warning", "ProvisioningFailed", message)

    async def _delete(self, volume: Obj) -> None:
        path = get_nested(volume, "spec", "hostPath", "path", default="")
        if not await asyncio.to_thread(remove_directory, self._root, path, name_of(volume)):
            message = f"could not remove {path}"
            self.recorder.event(volume, "Warning", "VolumeFailedDelete", message)
            raise SyncError(message)
        try:
            await self.client.delete(PERSISTENT_VOLUMES, name_of(volume))
        except StatusError as error:
            if not is_not_found(error):
                raise
