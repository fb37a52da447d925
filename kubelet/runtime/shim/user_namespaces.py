"""Pods in a user namespace of their own (``hostUsers: false``, KEP-127).

The pod's pause process makes the namespace; root inside is the first of its ids outside. Images
and volumes are mounted with their owners shifted by the same map (idmapped mounts), so that what
belongs to 0 on disk is root's inside, and what root writes belongs to 0 on disk. Root inside may
not walk the kubelet's directories: what it needs is attached at a place of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import stat
from typing import Any

from pilothouse.kubelet.network import namespaces as ns
from pilothouse.kubelet.runtime.shim.host_tree import attach, clone_tree
from pilothouse.kubelet.runtime.shim.node import ShimError

LENGTH = 65536
"""Ids of one pod (idsPerPod's default)."""
MINIMAL_KERNEL = (6, 3)
"""With it tmpfs can be mounted with a map, too, which volumes of the kubelet need."""
PLACES = "/run"
_MOUNT_SETATTR = 442
_EMPTY_PATH = 0x1000
_IDMAP = 0x00100000

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def supported(rootless: bool) -> bool:
    """Whether this machine can have such pods."""
    if rootless:
        return False
    try:
        with open("/proc/sys/user/max_user_namespaces", encoding="ascii") as file:
            allowed = int(file.read())
    except (OSError, ValueError):
        return False
    return allowed > 0 and _kernel() >= MINIMAL_KERNEL


def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def mappings(first: int) -> dict[str, list[dict[str, int]]]:
    """``linux.uidMappings`` and ``gidMappings``: from 0 to ``first`` on the node."""
    one = {"containerID": 0, "hostID": first, "size": LENGTH}
    return {"uidMappings": [one], "gidMappings": [dict(one)]}


def place_of(state_dir: str, identity: str) -> str:
    """Where things of one sandbox or container are attached."""
    return f"{_top(state_dir)}/{identity[:32]}"


def _top(state_dir: str) -> str:
    return f"{PLACES}/pilothouse-{hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]}"


def make_place(path: str, first: int) -> None:
    """The pod's root may walk and fill it; other users may not look into it."""
    top = os.path.dirname(path)
    os.makedirs(top, exist_ok=True)
    os.chmod(top, 0o711)
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o700)
    os.chown(path, first, first)


def remove_place(path: str) -> None:
    """With everything attached there; missing is fine. Never what is behind a mount."""
    for name in os.listdir(path) if os.path.isdir(path) else ():
        entry = os.path.join(path, name)
        with contextlib.suppress(OSError):
            while True:  # until it is none: there may be one on top of another
                ns.umount(entry)
        with contextlib.suppress(OSError):
            (os.rmdir if os.path.isdir(entry) else os.unlink)(entry)
    shutil.rmtree(f"{path}/rootfs", ignore_errors=True)  # of a pause process, or nobody's
    for directory in (path, os.path.dirname(path)):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def remove_all(state_dir: str) -> None:
    top = _top(state_dir)
    for name in os.listdir(top) if os.path.isdir(top) else ():
        remove_place(os.path.join(top, name))
    with contextlib.suppress(OSError):
        os.rmdir(top)


def attach_mapped(source: str, target: str, user_namespace: int) -> None:
    """A copy of the mount at ``source`` with the map of the namespace (a descriptor).

    :raises ShimError: the file system of ``source`` can't be mounted so.
    """
    try:
        fd = clone_tree(source)
    except OSError as error:
        raise ShimError("StartError", f"failed to mount {source}: {error.strerror}") from error
    try:
        _set_map(fd, source, user_namespace)
        attach(fd, _mount_point(fd, target))
    finally:
        os.close(fd)


def attach_plain(source: str, target: str) -> None:
    """A copy of what has the map already."""
    fd = clone_tree(source)
    try:
        attach(fd, _mount_point(fd, target))
    finally:
        os.close(fd)


def _set_map(fd: int, source: str, user_namespace: int) -> None:
    attributes = _MountAttributes(_IDMAP, 0, 0, user_namespace)
    result = _libc.syscall(
        _MOUNT_SETATTR, fd, b"", _EMPTY_PATH, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        raise ShimError(
            "StartError",
            f"failed to set MOUNT_ATTR_IDMAP on {source}: {reason} "
            "(maybe the filesystem used doesn't support idmap mounts on this kernel?)",
        )


def _mount_point(fd: int, target: str) -> str:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return target


class MappedMounts:
    """A container's volumes, attached at its place. ``first`` 0: it has the node's users."""

    def __init__(self, place: str, first: int) -> None:
        self.place = place
        self.first = first

    def prepare(self) -> None:
        if self.first:
            make_place(self.place, self.first)

    def mount(self, mounts: list[dict[str, Any]], user_namespace: int) -> None:
        """What is to be bound instead of each ``host_path``."""
        if not self.first:
            return
        for number, mount in enumerate(mounts):
            target = f"{self.place}/{number}"
            if mount.get("image"):
                attach_plain(mount["host_path"], target)  # its layers have the map
            else:
                attach_mapped(mount["host_path"], target, user_namespace)
            mount["host_path"] = target

    def unmount(self) -> None:
        """Missing is fine."""
        if self.first:
            remove_place(self.place)
