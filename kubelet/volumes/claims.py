"""Volumes that come from a PersistentVolumeClaim (named, or a generic ephemeral volume's own).

Found through the API, as upstream's populator does: the claim must be bound, the volume must be
bound to just this claim. What is mounted is a path of the node: hostPath, local, local-path.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj, get_nested, meta, namespace_of, uid_of
from pilothouse.apis.core.pod_helpers import visit_containers
from pilothouse.apis.core.volume_binding import (
    PROVISIONED_BY,
    annotations_of,
    claim_name_of,
    ephemeral_claim_problem,
    volume_mode,
)
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pilothouse.kubelet.interfaces import MountedVolume, MountError
from pilothouse.kubelet.volumes.device_mounts import is_device
from pilothouse.kubelet.volumes.host_path import prepare_host_path

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
LOCAL_PATH = "pilothouse.dev/local-path"


@dataclass(frozen=True, slots=True)
class ClaimedVolume:
    volume: Obj
    readonly: bool


class ClaimVolumes:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def find(self, pod: Obj, volume: Obj) -> ClaimedVolume | None:
        """None for another kind of volume. :raises MountError: it can't be used (yet)."""
        name = claim_name_of(pod, volume)
        if name is None:
            return None
        namespace = namespace_of(pod)
        try:
            claim = await self._claim(namespace, name)
            if "ephemeral" in volume:
                problem = ephemeral_claim_problem(pod, claim)
                if problem:
                    raise MountError(problem)
            persistent = await self._volume(claim)
        except MountError as error:
            raise MountError(f"error processing PVC {namespace}/{name}: {error}") from error
        mode = volume_mode(persistent)
        use = "volumeMounts" if mode == "Block" else "volumeDevices"
        if volume["name"] in _names(pod, use):
            raise MountError(
                f"volume {volume['name']} has volumeMode {mode}, but is specified in {use}"
            )
        source = volume.get("persistentVolumeClaim") or {}
        return ClaimedVolume(persistent, bool(source.get("readOnly")))

    @property
    def client(self) -> Client:
        return self._client

    async def _claim(self, namespace: str, name: str) -> Obj:
        try:
            claim = await self._client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        except StatusError as error:
            raise MountError(f"failed to fetch PVC from API server: {error.message}") from error
        finalizers = meta(claim).get("finalizers") or ()
        if meta(claim).get("deletionTimestamp") and CLAIM_FINALIZER not in finalizers:
            raise MountError("PVC is being deleted")
        if get_nested(claim, "status", "phase") != "Bound":
            raise MountError("PVC is not bound")
        if not claim["spec"].get("volumeName"):
            raise MountError("PVC has empty pvc.Spec.VolumeName")
        return claim

    async def _volume(self, claim: Obj) -> Obj:
        name = claim["spec"]["volumeName"]
        try:
            volume = await self._client.get(PERSISTENT_VOLUMES, name)
        except StatusError as error:
            text = f"failed to fetch PV {name} from API server: {error.message}"
            raise MountError(text) from error
        reference = volume["spec"].get("claimRef")
        if not reference:
            raise MountError(
                f"found PV object {name} but it has a nil pv.Spec.ClaimRef "
                "indicating it is not yet bound to the claim"
            )
        if reference.get("uid") != uid_of(claim):
            raise MountError(
                f"found PV object {name} but its pv.Spec.ClaimRef.UID {reference.get('uid')} "
                f"does not point to claim.UID {uid_of(claim)}"
            )
        return volume


def _names(pod: Obj, field: str) -> set[str]:
    """Volumes that containers of the pod have in volumeMounts or volumeDevices."""
    return {
        use["name"] for container, _ in visit_containers(pod["spec"])
        for use in container.get(field) or ()
    }  # fmt: skip


def prepare_block(claimed: ClaimedVolume) -> MountedVolume:
    """:raises MountError: there is no such device."""
    path = (claimed.volume["spec"].get("local") or {}).get("path")
    if path is None:
        raise MountError("no volume plugin matched: only local volumes can be block devices")
    if not is_device(path):
        raise MountError(f'path "{path}" is not a block device')
    return MountedVolume("", readonly=claimed.readonly, device=path)


def prepare_claimed(claimed: ClaimedVolume, security: Obj) -> MountedVolume:
    """The volume's path, made if it may be, owned by the pod's fsGroup where volumes are.

    ``security`` is the pod's securityContext. :raises MountError: no path of this node.
    """
    volume = claimed.volume
    spec = volume["spec"]
    ours = annotations_of(volume).get(PROVISIONED_BY) == LOCAL_PATH
    if "hostPath" in spec:
        path = _own_directory(spec["hostPath"]["path"]) if ours else prepare_host_path(
            spec["hostPath"]
        )  # fmt: skip
    elif "local" in spec:
        path = spec["local"]["path"]
        if not os.path.exists(path):
            raise MountError(f'path "{path}" does not exist')
    else:
        known = ("capacity", "accessModes", "claimRef", "nodeAffinity", "mountOptions")
        kind = next((k for k in spec if isinstance(spec[k], dict) and k not in known), "unknown")
        raise MountError(f"no volume plugin matched: volumes of kind {kind} need a driver")
    group = security.get("fsGroup")
    # hostPath volumes of an administrator keep their owners (as upstream).
    if group is not None and not claimed.readonly and (ours or "local" in spec):
        set_group(path, group, only_if_different=security.get("fsGroupChangePolicy") ==
                  "OnRootMismatch")  # fmt: skip
    return MountedVolume(path, readonly=claimed.readonly)


def _own_directory(path: str) -> str:
    """Of a local-path volume: any user of the pod may write, as in an emptyDir."""
    if not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)
    return path


def set_group(path: str, group: int, *, only_if_different: bool = False) -> None:
    """Gives everything below ``path`` to the group: it may read and write, new files are its own
    (volume.SetVolumeOwnership). A ``path`` that is a link stands for what it leads to."""
    path = os.path.realpath(path)
    if only_if_different and _is_groups(os.stat(path), group):
        return
    for _, folders, files, here in os.fwalk(path, topdown=False):
        for name in (*files, *folders):
            with contextlib.suppress(FileNotFoundError):
                _give(name, group, here)
    _give(os.path.realpath(path), group)


def _is_groups(status: os.stat_result, group: int) -> bool:
    return status.st_gid == group and stat.S_IMODE(status.st_mode) & 0o2770 == 0o2770


def _give(name: str, group: int, directory: int | None = None) -> None:
    """By descriptor: a container that has the volume already may put a link in a file's place."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = os.fstat(fd).st_mode
        os.chown(f"/proc/self/fd/{fd}", -1, group)
        if not stat.S_ISLNK(mode):
            wanted = 0o2770 if stat.S_ISDIR(mode) else 0o660
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | wanted)
    finally:
        os.close(fd)
