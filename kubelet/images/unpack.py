"""Unpacks one image layer (tar; plain, gzip or zstd) into a directory of its own.

The result is a lower directory for overlayfs: a whiteout becomes a 0/0 character device, an
opaque directory gets overlay's extended attribute. Both are also listed in :class:`Unpacked`,
for :func:`merge` and for filesystems that have neither. An entry can't leave the directory:
``..`` is refused and symbolic links in parent paths are resolved inside the root.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_ATTRIBUTES = ("trusted.overlay.opaque", "user.overlay.opaque")
MAX_LINKS = 40
CONTENT_ERRORS = (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTDIR)
"""What an absurd entry gives; a full disk or a missing privilege is no fault of the layer's."""


class DamagedLayer(Exception):
    """The layer is not what its image says, or its content is not acceptable."""


class Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(slots=True)
class Unpacked:
    """``whiteouts`` and ``opaques`` are paths relative to the layer's root."""

    diff_id: str
    size: int
    whiteouts: list[str] = field(default_factory=list)
    opaques: list[str] = field(default_factory=list)


class _HashingReader:
    def __init__(self, source: Reader) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def drain(self) -> str:
        """Reads to the end; the digest of everything."""
        while self.read(1 << 18):
            pass
        return f"sha256:{self._hash.hexdigest()}"


def decompressed(source: IO[bytes]) -> Reader:
    """A reader of the plain tar. ``source`` must be able to seek.

    :raises DamagedLayer: zstd, and neither a Python module nor the zstd program for it is here.
    """
    start = source.tell()
    magic = source.read(4)
    source.seek(start)
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=source, mode="rb")
    if magic == b"\x28\xb5\x2f\xfd":
        return _zstd(source)
    return source


def _zstd(source: IO[bytes]) -> Reader:
    try:
        import zstandard  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return _zstd_program(source)
    reader: Reader = zstandard.ZstdDecompressor().stream_reader(source)
    return reader


def _zstd_program(source: IO[bytes]) -> Reader:
    program = shutil.which("zstd")
    if program is None:
        raise DamagedLayer(
            "the layer is compressed with zstd: install the Python package zstandard or the "
            "program zstd"
        )
    plain = tempfile.TemporaryFile()
    with tempfile.TemporaryFile() as packed:
        shutil.copyfileobj(source, packed)
        packed.seek(0)
        result = subprocess.run(
            [program, "-dcq"], stdin=packed, stdout=plain, stderr=subprocess.PIPE, check=False
        )
    if result.returncode != 0:
        raise DamagedLayer(f"not a readable layer: {result.stderr.decode(errors='replace')}")
    plain.seek(0)
    return plain


def unpack_layer(source: IO[bytes], root: str, *, keep_owner: bool) -> Unpacked:
    """Unpacks ``source`` into the empty directory ``root``. Blocking: call it in a thread.

    :raises DamagedLayer: no tar, an unsafe path or a broken link.
    """
    reader = _HashingReader(decompressed(source))
    unpacker = _Unpacker(root, keep_owner)
    try:
        with tarfile.open(fileobj=reader, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                unpacker.add(archive, member)
        unpacker.finish()
        digest = reader.drain()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise DamagedLayer(f"not a readable layer: {error}") from error
    except OSError as error:
        if error.errno is None or error.errno in CONTENT_ERRORS:  # None: gzip's own complaints
            raise DamagedLayer(f"not a readable layer: {error}") from error
        raise
    return Unpacked(digest, reader.size, unpacker.whiteouts, unpacker.opaques)


class _Unpacker:
    def __init__(self, root: str, keep_owner: bool) -> None:
        self._root = root
        self._keep_owner = keep_owner
        self._real: set[str] = {""}  # directories known to be directories, relative
        self._directories: dict[str, tarfile.TarInfo] = {}
        self.whiteouts: list[str] = []
        self.opaques: list[str] = []

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = clean_path(member.name)
        if not name:
            self._directories[""] = member
            return
        parent, _, base = name.rpartition("/")
        parent = self._directory(parent)
        path = f"{parent}/{base}" if parent else base
        if base == OPAQUE:
            self._opaque(parent)
        elif base.startswith(WHITEOUT):
            self._whiteout(parent, base.removeprefix(WHITEOUT))
        else:
            self._entry(archive, member, path)

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        full = os.path.join(self._root, path)
        if member.isdir():
            self._replace(path, keep_directory=True)
            if not os.path.isdir(full):
                os.mkdir(full, 0o755)
            self._real.add(path)
            self._directories[path] = member
            return
        self._replace(path)
        if member.isreg():
            self._file(archive, member, full)
        elif member.issym():
            os.symlink(member.linkname, full)
        elif member.islnk():
            self._hard_link(member, full)
            return
        elif not self._special(member, full):
            return
        self._attributes(member, full)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, full: str) -> None:
        source = archive.extractfile(member)
        if source is None:
            raise DamagedLayer(f"{member.name}: no content")
        with open(full, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 18)

    def _hard_link(self, member: tarfile.TarInfo, full: str) -> None:
        name = clean_path(member.linkname)
        parent, _, base = name.rpartition("/")
        parent = self._directory(parent)
        try:
            os.link(os.path.join(self._root, parent, base), full, follow_symlinks=False)
        except OSError as error:
            raise DamagedLayer(
                f"{member.name}: hard link to {member.linkname}: {error.strerror}"
            ) from error

    def _special(self, member: tarfile.TarInfo, full: str) -> bool:
        """Devices and pipes; without privileges a device is left out."""
        if member.isfifo():
            os.mkfifo(full)
            return True
        if not (member.ischr() or member.isblk()):
            return False
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        try:
            os.mknod(full, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        except PermissionError:
            return False
        return True

    def _attributes(self, member: tarfile.TarInfo, full: str) -> None:
        if self._keep_owner:
            os.lchown(full, member.uid, member.gid)
        if not member.issym():
            os.chmod(full, stat.S_IMODE(member.mode))  # after chown, which clears setuid
        for key, value in member.pax_headers.items():
            if key.startswith("SCHILY.xattr."):
                _set_attribute(full, key.removeprefix("SCHILY.xattr."), value)
        os.utime(full, (member.mtime, member.mtime), follow_symlinks=False)

    def finish(self) -> None:
        """Directories last: their modes might forbid writing, and content changes their times."""
        for path, member in reversed(self._directories.items()):
            if path in self._real:
                self._attributes(member, os.path.join(self._root, path))

    def _opaque(self, directory: str) -> None:
        self.opaques.append(directory)
        for name in OPAQUE_ATTRIBUTES:
            _set_attribute(os.path.join(self._root, directory), name, "y")

    def _whiteout(self, directory: str, base: str) -> None:
        if base in ("", ".", "..") or base.startswith(WHITEOUT):
            return  # aufs bookkeeping
        path = f"{directory}/{base}" if directory else base
        self._replace(path)
        self.whiteouts.append(path)
        try:
            os.mknod(os.path.join(self._root, path), stat.S_IFCHR | 0o600, 0)
        except OSError:
            pass  # the list is what counts then

    def _replace(self, path: str, *, keep_directory: bool = False) -> None:
        """Makes room for ``path``: a later entry of one layer wins."""
        full = os.path.join(self._root, path)
        try:
            mode = os.lstat(full).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            if keep_directory:
                return
            shutil.rmtree(full)
            gone = f"{path}/"
            self._real = {p for p in self._real if p != path and not p.startswith(gone)}
        else:
            os.unlink(full)

    def _directory(self, path: str) -> str:
        """The real directory for ``path`` (relative), made when missing, never outside the root."""
        if path in self._real:
            return path
        done: list[str] = []
        todo = path.split("/")[::-1] if path else []
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, part])
            full = os.path.join(self._root, here)
            try:
                mode = os.lstat(full).st_mode
            except FileNotFoundError:
                os.mkdir(full, 0o755)
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                links += 1
                if links > MAX_LINKS:
                    raise DamagedLayer(f"{path}: too many symbolic links")
                target = os.readlink(full)
                done = [] if target.startswith("/") else done
                todo.extend(target.split("/")[::-1])
            elif stat.S_ISDIR(mode):
                done.append(part)
                self._real.add(here)
            else:
                raise DamagedLayer(f"{path}: {here} is not a directory")
        return "/".join(done)


def clean_path(name: str) -> str:
    """``name`` relative to the layer's root. :raises DamagedLayer: it has a ``..`` part."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise DamagedLayer(f"unsafe path in layer: {name!r}")
    return "/".join(parts)


def _set_attribute(path: str, name: str, value: str) -> None:
    try:
        data = value.encode("utf-8", "surrogateescape")
        os.setxattr(path, name, data, follow_symlinks=False)
    except OSError:
        pass  # the filesystem has no such attributes, or we lack the privilege


def merge(layers: Sequence[tuple[str, Unpacked]], target: str) -> None:
    """Copies ``layers`` (lowest first) into ``target``: a root filesystem without overlayfs."""
    for root, unpacked in layers:
        for path in unpacked.opaques:
            if _in_directories(target, path):
                _clear(os.path.join(target, path))
        for path in unpacked.whiteouts:
            if _in_directories(target, path):
                _remove(os.path.join(target, path))
        whiteouts = set(unpacked.whiteouts)
        _copy_tree(root, target, "", whiteouts)


def _copy_tree(source: str, target: str, prefix: str, skip: set[str]) -> None:
    for entry in os.scandir(os.path.join(source, prefix)):
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if path in skip:
            continue
        goal = os.path.join(target, path)
        if entry.is_dir(follow_symlinks=False):
            if not os.path.isdir(goal) or os.path.islink(goal):
                _remove(goal)
                os.mkdir(goal)
            _copy_tree(source, target, path, skip)
            shutil.copystat(entry.path, goal, follow_symlinks=False)
        elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
            _remove(goal)
            shutil.copy2(entry.path, goal, follow_symlinks=False)


def _in_directories(target: str, path: str) -> bool:
    """Whether no link is on the way: behind one is something else than this layer meant, maybe
    the machine's own files. Its directory takes the link's place afterwards."""
    parent = target
    for part in path.split("/")[:-1]:
        parent = os.path.join(parent, part)
        if os.path.islink(parent):
            return False
    return True


def _clear(directory: str) -> None:
    if os.path.isdir(directory) and not os.path.islink(directory):
        for name in os.listdir(directory):
            _remove(os.path.join(directory, name))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
