"""Volumes that are mounts of the node itself: those with mountPropagation, and those in memory.

The shim's mount namespace receives what the node mounts but tells nothing back. A copy of the
node's mount is of the same peer group as the original wherever it is attached: what a container
mounts below it (Bidirectional) is there for the node and its other pods, and the other way round.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING, TypeVar

from pilothouse.kubelet.network import namespaces as ns

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_CLONE, _RECURSIVE, _EMPTY_PATH = 1, 0x8000, 4
_CLONE_FS = 0x200
_HERE = -100

_libc = ctypes.CDLL(None, use_errno=True)


class HostTree:
    """One such volume of one container, attached at ``path`` of the shim's namespace."""

    def __init__(self, path: str, node_namespace: int) -> None:
        self.path = path
        self._namespace = node_namespace

    def mount(self, source: str) -> str:
        """What is to be bound: the node's ``source``, or the shim's where that can't be had."""
        try:
            fd = in_node(self._namespace, lambda: clone_tree(source))
        except OSError:
            return source
        try:
            if os.fstat(fd).st_dev != os.stat(source).st_dev:
                return source  # mounted by the shim for itself, as volumes in memory
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.makedirs(self.path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            attach(fd, self.path)
        finally:
            os.close(fd)
        return self.path

    def unmount(self) -> None:
        """Missing is fine. What was mounted below by others stays with them."""
        with contextlib.suppress(OSError):
            # Else the end of this copy would be the end of what others mounted below it.
            ns.mount("none", self.path, "", ns.MS_REC | ns.MS_PRIVATE)
            ns.umount(self.path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class NodeMounts:
    """Volumes in memory: mounted on the node, where the kubelet uses them, too.

    The source of such a mount stands for the shim's state directory: so a later shim finds them.
    """

    def __init__(self, node_namespace: int, state_dir: str) -> None:
        self._namespace = node_namespace
        # Short: busybox df gives sources of more than 20 characters a line of their own.
        self._source = f"tmpfs-{hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]}"
        self._shown = f"{state_dir}/shown-mounts"
        """The file names mounts that others made, a path a line."""

    def mount_tmpfs(self, path: str, options: str) -> None:
        """:raises OSError: it can't be mounted."""

        def on_node() -> int:
            os.makedirs(path, exist_ok=True)
            if not os.path.ismount(path):
                ns.mount(self._source, path, "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, options)
            return clone_tree(path)

        fd = in_node(self._namespace, on_node)
        try:
            if not os.path.ismount(path):  # what the node mounts doesn't come here by itself
                attach(fd, path)
        finally:
            os.close(fd)

    def show(self, path: str) -> None:
        """A mount that others made on the node; it ends with everything, too."""
        known = self._read_shown()
        if path not in known:
            self._write_shown([*known, path])
        if not os.path.ismount(path):
            fd = in_node(self._namespace, lambda: clone_tree(path))
            try:
                attach(fd, path)
            finally:
                os.close(fd)

    def unmount(self, path: str) -> None:
        """Missing is fine."""
        with contextlib.suppress(OSError):
            in_node(self._namespace, lambda: _unmount(path))
        _unmount(path)
        known = self._read_shown()
        if path in known:
            self._write_shown([other for other in known if other != path])

    def _read_shown(self) -> list[str]:
        try:
            with open(self._shown, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def _write_shown(self, paths: list[str]) -> None:
        with open(self._shown, "w", encoding="utf-8") as file:
            file.writelines(f"{path}\n" for path in paths)

    def unmount_all(self) -> None:
        with contextlib.suppress(OSError):
            paths = in_node(self._namespace, lambda: _mounted_from(self._source))
            for path in [*paths, *self._read_shown()]:
                self.unmount(path)


def in_node(namespace: int, function: Callable[[], T]) -> T:
    """``function()`` in the node's mount namespace, in a thread that ends there."""

    def inside() -> T:
        ns.unshare(_CLONE_FS)
        ns.setns(namespace, ns.CLONE_NEWNS)
        return function()

    return ns.run_in_thread(inside)


def _unmount(path: str) -> None:
    if os.path.ismount(path):
        ns.umount(path)


def _mounted_from(source: str) -> list[str]:
    with open("/proc/thread-self/mountinfo", encoding="utf-8") as file:
        lines = [line.split() for line in file]
    return [_unescaped(line[4]) for line in lines if _unescaped(line[-2]) == source]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def clone_tree(source: str) -> int:
    """A copy of the mounts at ``source`` that isn't attached anywhere yet."""
    flags = _CLONE | _RECURSIVE | os.O_CLOEXEC
    return _call(_OPEN_TREE, _HERE, os.fsencode(source), flags)


def attach(fd: int, path: str) -> None:
    _call(_MOVE_MOUNT, fd, b"", _HERE, os.fsencode(path), _EMPTY_PATH)


def _call(number: int, *arguments: int | bytes) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
