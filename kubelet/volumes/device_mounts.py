"""Filesystems on local block devices: made if there is none, mounted once a node, grown.

As upstream's local volume plugin: a PersistentVolume whose ``local.path`` is a block device and
whose mode is Filesystem is mounted below the kubelet's plugins folder; its pods bind that.
"""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from typing import Protocol

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.interfaces import MountError

DEFAULT_FS = "ext4"
_MAKE = {
    "ext3": ("mkfs.ext3", "-F", "-m0"),
    "ext4": ("mkfs.ext4", "-F", "-m0"),
    "xfs": ("mkfs.xfs", "-f"),
}
_NO_FILESYSTEM = 2
"""blkid's exit code."""


class MountViewer(Protocol):
    async def show_mount(self, path: str) -> None:
        """What the kubelet has mounted at ``path`` is seen by containers, too."""
        ...

    async def unmount(self, path: str) -> None: ...


class DeviceMounts:
    def __init__(self, root_dir: str, viewer: MountViewer | None) -> None:
        self._directory = os.path.join(root_dir, "plugins", "kubernetes.io", "local-volume")
        self._viewer = viewer
        self._users: dict[str, set[str]] = {}
        """Uids of pods by mounted path."""
        self._lock = asyncio.Lock()

    async def mount(self, volume: Obj, uid: str, *, readonly: bool) -> str:
        """Where the filesystem of this PersistentVolume is. Idempotent. :raises MountError: why
        it can't be mounted."""
        path = os.path.join(self._directory, "mounts", volume["metadata"]["name"])
        async with self._lock:
            await asyncio.to_thread(self._mount, volume["spec"], path, readonly)
            if self._viewer is not None:
                await self._viewer.show_mount(path)
            self._users.setdefault(path, set()).add(uid)
        return path

    @staticmethod
    def _mount(spec: Obj, path: str, readonly: bool) -> None:
        os.makedirs(path, mode=0o750, exist_ok=True)
        if os.path.ismount(path):
            return
        device = os.path.realpath(spec["local"]["path"])
        kind = spec["local"].get("fsType") or DEFAULT_FS
        if not readonly and _is_empty(device):
            command = _MAKE.get(kind)
            if command is None:
                raise MountError(f"filesystem {kind} can't be made on {device}")
            _run(*command, device)
        options = [*(spec.get("mountOptions") or ()), *(["ro"] if readonly else [])]
        chosen = ("-o", ",".join(options)) if options else ()
        _run("mount", "-t", kind, *chosen, device, path)

    async def release(self, uid: str) -> None:
        """The pod is gone: what only it used is unmounted."""
        async with self._lock:
            for path, users in list(self._users.items()):
                users.discard(uid)
                if not users:
                    del self._users[path]
                    await asyncio.to_thread(_unmount, path)
                    if self._viewer is not None:
                        await self._viewer.unmount(path)

    async def grow(self, volume: Obj) -> None:
        """The filesystem is made as large as its device has become. :raises MountError: why not."""
        local = volume["spec"]["local"]
        if (local.get("fsType") or DEFAULT_FS) == "xfs":
            name = volume["metadata"]["name"]
            command = ("xfs_growfs", os.path.join(self._directory, "mounts", name))
        else:
            command = ("resize2fs", local["path"])
        await asyncio.to_thread(_run, *command)

    def uses(self, uid: str) -> bool:
        """Whether the pod has one of these filesystems."""
        return any(uid in users for users in self._users.values())


def is_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _is_empty(device: str) -> bool:
    """Neither a filesystem nor partitions."""
    command = ["blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise MountError(f"can't look at {device}: {error}") from error
    return done.returncode == _NO_FILESYSTEM


def _unmount(path: str) -> None:
    if os.path.ismount(path):
        _run("umount", path)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MountError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        text = (done.stderr or done.stdout).strip()
        raise MountError(f"{' '.join(command)} failed with {done.returncode}: {text}")
