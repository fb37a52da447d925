"""Who a container runs as: names looked up in the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass, field
from typing import Any

SYS_OPENAT2 = 437
RESOLVE_IN_ROOT = 0x10
NO_LINKS = 0x08 | 0x04 | 0x02
"""RESOLVE_BENEATH, _NO_SYMLINKS, _NO_MAGICLINKS: a path without any link, below its root."""
_libc = ctypes.CDLL(None, use_errno=True)


class UnknownUser(Exception):
    """The image has no such user or group."""


@dataclass(slots=True)
class User:
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    home: str = "/"


def resolve_user(root: str, image_user: str, security: dict[str, Any]) -> User:
    """The pod's choice over the image's ``USER``. :raises UnknownUser: a name that isn't there."""
    name, _, group = image_user.partition(":")
    if security.get("run_as_user") is not None:
        name, group = str(security["run_as_user"]), ""
    elif security.get("run_as_username"):
        name, group = security["run_as_username"], ""
    passwd = _rows(root, "/etc/passwd")
    groups = _rows(root, "/etc/group")
    user = _find_user(passwd, name or "0")
    if group:
        user.gid = _find_group(groups, group)
    login = next((row[0] for row in passwd if len(row) > 2 and row[2] == str(user.uid)), "")
    if not security.get("strict_groups"):
        user.groups = [
            int(row[2]) for row in groups if len(row) > 3 and login and login in row[3].split(",")
        ]
    if security.get("run_as_group") is not None:
        user.gid = security["run_as_group"]
    wanted = {user.gid, *user.groups, *(security.get("supplemental_groups") or ())}
    user.groups = sorted(wanted)
    return user


def _find_user(passwd: list[list[str]], name: str) -> User:
    for row in passwd:
        if len(row) > 5 and name in (row[0], row[2]) and row[2].isdigit():
            return User(int(row[2]), int(row[3] or 0), [], row[5] or "/")
    if name.isdigit():
        return User(int(name))
    raise UnknownUser(f"unable to find user {name}: no matching entries in passwd file")


def _find_group(groups: list[list[str]], name: str) -> int:
    if name.isdigit():
        return int(name)
    for row in groups:
        if len(row) > 2 and row[0] == name:
            return int(row[2])
    raise UnknownUser(f"unable to find group {name}: no matching entries in group file")


def _rows(root: str, path: str) -> list[list[str]]:
    try:
        fd = open_in_root(root, path)
    except OSError:
        return []
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        lines = file.read(1 << 20).splitlines()
    return [line.split(":") for line in lines if line and not line.startswith("#")]


def open_in_root(
    root: str, path: str, flags: int = os.O_RDONLY, resolve: int = RESOLVE_IN_ROOT
) -> int:
    """Opens ``path`` as a process with root directory ``root`` would: links can't lead out, and
    with :data:`NO_LINKS` there may be none (openat2's ``resolve``)."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
        fd = int(_libc.syscall(SYS_OPENAT2, directory, os.fsencode(path), how, len(how)))
        if fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return fd
    finally:
        os.close(directory)
