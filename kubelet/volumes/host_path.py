"""hostPath: what the node has at a path, checked or made as ``type`` says."""

from __future__ import annotations

import os
import stat

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.interfaces import MountError

_CHECKS = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


def prepare_host_path(source: Obj) -> str:
    """The path, ready to be mounted. :raises MountError: it is not what ``type`` asks for."""
    path, kind = source["path"], source.get("type") or ""
    if kind == "DirectoryOrCreate":
        os.makedirs(path, mode=0o755, exist_ok=True)
        kind = "Directory"
    elif kind == "FileOrCreate":
        if not os.path.exists(path):
            with open(path, "xb"):
                os.chmod(path, 0o644)
        kind = "File"
    if not kind:
        if not os.path.exists(path):
            os.makedirs(path, mode=0o755, exist_ok=True)
        return str(path)
    check, text = _CHECKS[kind]
    try:
        mode = os.stat(path).st_mode
    except OSError:
        raise MountError(f"hostPath type check failed: {path} {text}") from None
    if not check(mode):
        raise MountError(f"hostPath type check failed: {path} {text}")
    return str(path)
