"""Volumes whose mounts are shared with the node (mountPropagation): taken from its own namespace.

The shim's mount namespace receives what the node mounts but tells nothing back. A copy of the
node's mount is of the same peer group as the original wherever it is attached: what a container
mounts below it (Bidirectional) is there for the node and its other pods, and the other way round.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat

from pilothouse.kubelet.network import namespaces as ns

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
            fd = ns.run_in_thread(lambda: self._clone(source))
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
            _call(_MOVE_MOUNT, fd, b"", _HERE, os.fsencode(self.path), _EMPTY_PATH)
        finally:
            os.close(fd)
        return self.path

    def _clone(self, source: str) -> int:
        """In a thread of its own, which ends inside the node's namespace."""
        ns.unshare(_CLONE_FS)
        ns.setns(self._namespace, ns.CLONE_NEWNS)
        return _call(_OPEN_TREE, _HERE, os.fsencode(source), _CLONE | _RECURSIVE | os.O_CLOEXEC)

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


def _call(number: int, *arguments: int | bytes) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
