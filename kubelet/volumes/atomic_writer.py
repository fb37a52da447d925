"""Writes a set of files so that readers see the old set or the new one, never a mix.

The files live in a folder with a fresh name; ``..data`` is a symbolic link to it that is replaced
in one step; the visible names are links through ``..data`` (volume/util/atomic_writer.go).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileContent:
    data: bytes
    mode: int
    owner: int | None = None
    """User id; None leaves it to the kubelet's own."""


class BadPath(ValueError):
    """A path that would leave the volume."""


def write_atomically(
    target: str, files: Mapping[str, FileContent], group: int | None = None
) -> bool:
    """Makes ``files`` (relative path: content) the content of ``target``; false: it was already.

    :raises BadPath: an absolute path, or one with ``..``.
    """
    for path in files:
        _check(path)
    os.makedirs(target, mode=0o755, exist_ok=True)
    data_link = os.path.join(target, "..data")
    current = os.path.join(target, os.readlink(data_link)) if os.path.islink(data_link) else ""
    if current and _same(current, files, group):
        return False
    fresh = tempfile.mkdtemp(prefix="..", dir=target)
    os.chmod(fresh, 0o755)
    for path, content in files.items():
        _write(os.path.join(fresh, path), content, group)
    temporary = os.path.join(target, "..data_tmp")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(os.path.basename(fresh), temporary)
    os.rename(temporary, data_link)
    _link_visible(target, {path.split("/")[0] for path in files})
    if current:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _check(path: str) -> None:
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise BadPath(f"invalid path {path!r}: must be relative and stay inside the volume")


def _write(path: str, content: FileContent, group: int | None) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "wb") as file:
        file.write(content.data)
    if group is not None or content.owner is not None:
        os.chown(path, -1 if content.owner is None else content.owner,
                 -1 if group is None else group)  # fmt: skip
    # Not by the mode of open(): the umask must not change what the user asked for.
    os.chmod(path, content.mode | 0o040 if group is not None else content.mode)


def _same(current: str, files: Mapping[str, FileContent], group: int | None) -> bool:
    found = set()
    for folder, _, names in os.walk(current):
        for name in names:
            found.add(os.path.relpath(os.path.join(folder, name), current))
    if found != set(files):
        return False
    for path, content in files.items():
        full = os.path.join(current, path)
        mode = content.mode | 0o040 if group is not None else content.mode
        if os.stat(full).st_mode & 0o7777 != mode:
            return False
        with open(full, "rb") as file:
            if file.read() != content.data:
                return False
    return True


def _link_visible(target: str, names: set[str]) -> None:
    for name in names:
        link = os.path.join(target, name)
        if not os.path.lexists(link):
            os.symlink(os.path.join("..data", name), link)
    for name in os.listdir(target):
        if not name.startswith("..") and name not in names:
            os.unlink(os.path.join(target, name))
