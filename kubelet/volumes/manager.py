"""All volumes of a pod on the node: set up, kept up to date, taken away.

Implements ``interfaces.Volumes``. File work runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apis.core.volume_binding import claim_name_of, volume_mode
from pilothouse.kubelet.interfaces import ContainerConfigError, MountedVolume, MountError
from pilothouse.kubelet.plugins.cdi import CDIError, device_node
from pilothouse.kubelet.pod_files import pod_directory, termination_log, volume_directory
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import Mount
from pilothouse.kubelet.volumes.atomic_writer import BadPath, write_atomically
from pilothouse.kubelet.volumes.claims import (
    ClaimedVolume,
    ClaimVolumes,
    prepare_block,
    prepare_claimed,
)
from pilothouse.kubelet.volumes.device_mounts import DeviceMounts, is_device
from pilothouse.kubelet.volumes.expansion import expand
from pilothouse.kubelet.volumes.host_files import hosts_file, resolv_conf
from pilothouse.kubelet.volumes.host_path import prepare_host_path
from pilothouse.kubelet.volumes.memory import MemoryMounts, is_in_memory, size_of
from pilothouse.kubelet.volumes.object_files import Files
from pilothouse.kubelet.volumes.projected import ObjectVolumes

OBJECT_KINDS = {
    "configMap": "configmap", "secret": "secret", "downwardAPI": "downward-api",
    "projected": "projected",
}  # fmt: skip


class VolumeManager:
    def __init__(
        self,
        root_dir: str,
        objects: ObjectVolumes,
        *,
        cluster_dns: tuple[str, ...] = (),
        cluster_domain: str = "cluster.local",
        memory_dir: str = "/dev/shm",
        real_files: bool = True,
        claims: ClaimVolumes | None = None,
        memory: MemoryMounts | None = None,
        node_memory: int = 0,
    ) -> None:
        """``real_files`` false: nothing is written (fake containers read nothing), but what is
        missing is still found."""
        self._root = root_dir
        self._objects = objects
        self._cluster_dns = cluster_dns
        self._cluster_domain = cluster_domain
        self._memory = os.path.join(memory_dir, "pilothouse-volumes")
        self._real = real_files
        self._claims = claims
        self._memory_mounts = memory
        self._devices = DeviceMounts(root_dir, memory)
        self._node_memory = node_memory
        self._claimed_by_pod: dict[str, dict[str, MountedVolume]] = {}
        """By uid and volume: found and given to the pod's group once in the pod's life."""

    async def mount(self, pod: Obj) -> dict[str, MountedVolume]:
        mounted: dict[str, MountedVolume] = {}
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            try:
                claimed = await self._claimed(pod, volume)
                if claimed is not None:
                    await self._expand(pod, volume)
                    mounted[name] = claimed
                    continue
                if self._real and self._memory_mounts is not None and is_in_memory(volume):
                    mounted[name] = await self._in_memory(self._memory_mounts, pod, volume)
                    continue
                files = await self._objects.files(pod, volume) if self._real else None
                mounted[name] = await self._run(self._mount_one, pod, volume, files)
            except (MountError, BadPath, RuntimeFailure, StatusError, OSError) as error:
                raise MountError(
                    f'MountVolume.SetUp failed for volume "{name}" : {error}'
                ) from error
        return mounted

    async def _run(self, function: object, *args: object) -> MountedVolume:
        if not self._real:
            return MountedVolume("")
        return await asyncio.to_thread(function, *args)  # type: ignore[arg-type]

    def _mount_one(self, pod: Obj, volume: Obj, files: Files | None) -> MountedVolume:
        uid, name = pod["metadata"]["uid"], volume["name"]
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        for kind, plugin in OBJECT_KINDS.items():
            if kind in volume:
                path = volume_directory(self._root, uid, plugin, name)
                write_atomically(path, files or {}, group)
                return MountedVolume(path, readonly=True)
        if "hostPath" in volume:
            return MountedVolume(prepare_host_path(volume["hostPath"]))
        if "image" in volume:
            return MountedVolume("", readonly=True, image=volume["image"]["reference"])
        if "emptyDir" in volume or len(volume) == 1:
            return MountedVolume(self._empty_dir(uid, volume, group))
        kind = next(key for key in volume if key != "name")
        raise MountError(f"volumes of kind {kind} are not supported yet")

    async def _in_memory(self, mounts: MemoryMounts, pod: Obj, volume: Obj) -> MountedVolume:
        path = self._memory_path(pod["metadata"]["uid"], volume["name"])
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        mode = 0o1777 if group is None else 0o3777
        size = size_of(pod, volume, self._node_memory)
        await mounts.mount_tmpfs(path, size, mode, group or 0)
        return MountedVolume(path)

    def _memory_path(self, uid: str, name: str) -> str:
        return volume_directory(self._root, uid, "empty-dir", name)

    async def _claimed(self, pod: Obj, volume: Obj) -> MountedVolume | None:
        known = self._claimed_by_pod.get(pod["metadata"]["uid"], {})
        if volume["name"] in known or self._claims is None:
            return known.get(volume["name"])
        claimed = await self._claims.find(pod, volume)
        if claimed is None:
            return None
        if self._real and volume_mode(claimed.volume) == "Block":
            mounted = await asyncio.to_thread(prepare_block, claimed)
        else:
            claimed = await self._with_filesystem(pod, claimed)
            mounted = await self._run(self._mount_claimed, pod, claimed)
        self._claimed_by_pod.setdefault(pod["metadata"]["uid"], {})[volume["name"]] = mounted
        return mounted

    async def _expand(self, pod: Obj, volume: Obj) -> None:
        claim_name = claim_name_of(pod, volume)
        if self._claims is None or claim_name is None or not self.grows(pod["metadata"]["uid"]):
            return
        claimed = await self._claims.find(pod, volume)
        path = ((claimed.volume["spec"].get("local") or {}) if claimed else {}).get("path") or ""
        if claimed is None or volume_mode(claimed.volume) == "Block" or not is_device(path):
            return
        namespace = pod["metadata"].get("namespace") or ""
        await expand(self._claims.client, namespace, claim_name, claimed, self._devices)

    def grows(self, uid: str) -> bool:
        """Whether the pod has volumes that may have to grow: it is looked at now and then."""
        return self._devices.uses(uid)

    async def _with_filesystem(self, pod: Obj, claimed: ClaimedVolume) -> ClaimedVolume:
        """A local volume that is a device: with the path where its filesystem is mounted."""
        local = claimed.volume["spec"].get("local")
        if not self._real or local is None or not await asyncio.to_thread(is_device, local["path"]):
            return claimed
        path = await self._devices.mount(
            claimed.volume, pod["metadata"]["uid"], readonly=claimed.readonly
        )
        spec = claimed.volume["spec"] | {"local": {"path": path}}
        return ClaimedVolume(claimed.volume | {"spec": spec}, claimed.readonly)

    @staticmethod
    def _mount_claimed(pod: Obj, claimed: ClaimedVolume) -> MountedVolume:
        return prepare_claimed(claimed, pod["spec"].get("securityContext") or {})

    def _empty_dir(self, uid: str, volume: Obj, group: int | None) -> str:
        name = volume["name"]
        mode = 0o777
        if (volume.get("emptyDir") or {}).get("medium") == "Memory":
            path = os.path.join(self._memory, uid, name)
            mode = 0o1777  # as a tmpfs of its own has
        else:
            path = volume_directory(self._root, uid, "empty-dir", name)
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
            if group is not None:
                os.chown(path, -1, group)
                os.chmod(path, mode | 0o2000)
        return path

    # -- mounts of a container -----------------------------------------------------------

    async def container_mounts(
        self,
        pod: Obj,
        container: Obj,
        mounted: dict[str, MountedVolume],
        pod_ip: str,
        attempt: int,
    ) -> list[Mount]:
        if not self._real:
            return []
        mounts = await asyncio.to_thread(self._container_mounts, pod, container, mounted, pod_ip)
        return [*mounts, await asyncio.to_thread(self._termination_log, pod, container, attempt)]

    def container_devices(self, container: Obj, mounted: dict[str, MountedVolume]) -> list[Obj]:
        return [
            _device(container, use, mounted) for use in container.get("volumeDevices") or ()
        ] if self._real else []  # fmt: skip

    def _container_mounts(
        self, pod: Obj, container: Obj, mounted: dict[str, MountedVolume], pod_ip: str
    ) -> list[Mount]:
        mounts = [
            self._volume_mount(container, m, mounted) for m in container.get("volumeMounts") or ()
        ]
        taken = {mount.container_path for mount in mounts}
        for path, source in self._node_files(pod, pod_ip).items():
            if path not in taken:
                mounts.append(Mount(source, path))
        return mounts

    def _volume_mount(self, container: Obj, mount: Obj, mounted: dict[str, MountedVolume]) -> Mount:
        volume = mounted.get(mount["name"])
        if volume is None:
            raise ContainerConfigError(
                f'cannot find volume "{mount["name"]}" '
                f'to mount into container "{container["name"]}"'
            )
        host_path, within = volume.host_path, ""
        sub_path = mount.get("subPath") or ""
        if volume.image:
            return Mount(
                "", mount["mountPath"], readonly=True, image=volume.image, image_sub_path=sub_path
            )
        if sub_path:
            within = os.path.realpath(volume.host_path)
            host_path = _sub_path(within, sub_path, volume.readonly)
        propagation = {
            "HostToContainer": "host_to_container", "Bidirectional": "bidirectional",
        }.get(mount.get("mountPropagation") or "", "private")  # fmt: skip
        return Mount(
            host_path,
            mount["mountPath"],
            readonly=bool(mount.get("readOnly")) or volume.readonly,
            propagation=propagation,  # type: ignore[arg-type]
            within=within,
        )

    def _node_files(self, pod: Obj, pod_ip: str) -> dict[str, str]:
        """/etc/hosts and /etc/resolv.conf of the pod."""
        directory = pod_directory(self._root, pod["metadata"]["uid"])
        os.makedirs(directory, mode=0o750, exist_ok=True)
        files = {"/etc/resolv.conf": resolv_conf(pod, self._cluster_dns, self._cluster_domain)}
        files["/etc/hosts"] = hosts_file(pod, pod_ip, self._cluster_domain)
        result = {}
        for path, text in files.items():
            source = os.path.join(directory, path.strip("/").replace("/", "-"))
            with open(source, "w") as file:
                file.write(text)
            os.chmod(source, 0o644)
            result[path] = source
        return result

    def _termination_log(self, pod: Obj, container: Obj, attempt: int) -> Mount:
        """An empty file for the container's last words, mounted where it expects it."""
        path = termination_log(self._root, pod["metadata"]["uid"], container["name"], attempt)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "wb"):
            os.chmod(path, 0o666)
        return Mount(path, container.get("terminationMessagePath") or "/dev/termination-log")

    async def unmount(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        self._objects.forget(uid)
        if self._claimed_by_pod.pop(uid, None):
            await self._devices.release(uid)
        if self._real and self._memory_mounts is not None:
            for name in await asyncio.to_thread(self._names_in_memory, uid):
                await self._memory_mounts.unmount(self._memory_path(uid, name))
        if self._real:
            await asyncio.to_thread(self._remove, uid)

    def _names_in_memory(self, uid: str) -> list[str]:
        """Also of a pod that nobody knows more of than its uid."""
        directory = os.path.dirname(self._memory_path(uid, "x"))
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return [name for name in names if os.path.ismount(os.path.join(directory, name))]

    def _remove(self, uid: str) -> None:
        shutil.rmtree(pod_directory(self._root, uid), ignore_errors=True)
        shutil.rmtree(os.path.join(self._memory, uid), ignore_errors=True)


def _device(container: Obj, use: Obj, mounted: dict[str, MountedVolume]) -> Obj:
    volume = mounted.get(use["name"])
    if volume is None or not volume.device:
        raise ContainerConfigError(
            f'cannot find volume "{use["name"]}" to pass into container "{container["name"]}"'
        )
    access = "r" if volume.readonly else "rwm"
    try:
        return device_node(os.path.realpath(volume.device), use["devicePath"], access)
    except (CDIError, OSError) as error:
        raise ContainerConfigError(str(error)) from error


def _sub_path(base: str, sub_path: str, readonly: bool) -> str:
    """The path below a volume; symbolic links must not lead out of it."""
    if os.path.isabs(sub_path) or ".." in sub_path.split("/"):
        raise ContainerConfigError(f"subPath {sub_path!r} must be relative and not contain '..'")
    full = os.path.join(base, sub_path)
    if not os.path.lexists(full) and not readonly:
        _make_below(base, sub_path)
    real, root = os.path.realpath(full), os.path.realpath(base)
    if real != root and not real.startswith(root + os.sep):
        raise ContainerConfigError(f"subPath {sub_path!r} leads out of the volume")
    if not os.path.exists(real):
        raise ContainerConfigError(f"failed to prepare subPath for volumeMount: {sub_path}")
    return real


def _make_below(base: str, sub_path: str) -> None:
    """Folders below the volume with the volume's own mode; never through a link that leaves."""
    mode = stat.S_IMODE(os.stat(base).st_mode)
    current = base
    for part in sub_path.split("/"):
        current = os.path.join(current, part)
        if not os.path.lexists(current):
            os.mkdir(current)
            os.chmod(current, mode)
        if not os.path.realpath(current).startswith(os.path.realpath(base) + os.sep):
            raise ContainerConfigError(f"subPath {sub_path!r} leads out of the volume")
