"""Imports images from files: docker-archive, OCI archive, OCI layout directory, or a stream.

``import_images(store, path)`` finds out which one it is. Every blob is checked against its
digest on the way in (layers by their diff id).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol

from pilothouse.kubelet.images import layout, reference
from pilothouse.kubelet.images.layout import InvalidManifest
from pilothouse.kubelet.images.store import diff_ids
from pilothouse.kubelet.images.unpack import DamagedLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.kubelet.images.store import ImageStore

NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
MAX_DOCUMENT = 8 << 20


class ImportFailed(Exception):
    """The file is no image archive, or a damaged one; the message says what to do."""


class _Files(Protocol):
    """Files of an archive or a directory, by relative name."""

    def open(self, name: str) -> IO[bytes]: ...

    def has(self, name: str) -> bool: ...


class _DirectoryFiles:
    def __init__(self, root: str) -> None:
        self._root = root

    def open(self, name: str) -> IO[bytes]:
        return open(os.path.join(self._root, name), "rb")

    def has(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self._root, name))


class _TarFiles:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {_plain(member.name): member for member in archive.getmembers()}

    def open(self, name: str) -> IO[bytes]:
        try:
            file = self._archive.extractfile(self._members[_plain(name)])
        except KeyError:
            raise ImportFailed(f"the archive is damaged: {name} is missing") from None
        if file is None:
            raise ImportFailed(f"the archive is damaged: {name} is no file")
        return file

    def has(self, name: str) -> bool:
        return _plain(name) in self._members


def _plain(name: str) -> str:
    return os.path.normpath(name).lstrip("/")


def import_images(
    store: ImageStore, source: str | IO[bytes], *, name: str = ""
) -> list[tuple[str, tuple[str, ...]]]:
    """(image id, names) of each image in ``source``: a path, ``-`` or a binary stream.

    ``name`` names an image whose archive doesn't. Blocking.

    :raises ImportFailed: no image archive, or a damaged one.
    """
    try:
        with _opened(store, source) as files:
            if files.has("index.json"):
                return _import_layout(store, files, name)
            if files.has("manifest.json"):
                return _import_docker(store, files, name)
    except (DamagedLayer, InvalidManifest, tarfile.TarError, EOFError) as error:
        raise ImportFailed(f"the image archive is damaged: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ImportFailed(f"the image archive is malformed: {error!r}") from error
    raise ImportFailed(
        "not an image archive: neither index.json (OCI) nor manifest.json (docker save) is in it"
    )


@contextlib.contextmanager
def _opened(store: ImageStore, source: str | IO[bytes]) -> Iterator[_Files]:
    if isinstance(source, str) and source != "-" and os.path.isdir(source):
        yield _DirectoryFiles(source)
        return
    with contextlib.ExitStack() as stack:
        if isinstance(source, str) and source != "-":
            stream: IO[bytes] = stack.enter_context(_open_file(source))
        else:
            # A stream can't go back, and docker's manifest comes last: keep a copy.
            stream = stack.enter_context(
                tempfile.TemporaryFile(dir=os.path.join(store.directory, "incoming"))
            )
            origin = open(0, "rb", closefd=False) if isinstance(source, str) else source
            shutil.copyfileobj(origin, stream)
            stream.seek(0)
        try:
            archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r:*"))
        except tarfile.ReadError as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            raise ImportFailed(f"not an image archive: {reason}") from error
        yield _TarFiles(archive)


def _open_file(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ImportFailed(f"cannot read {path}: {error.strerror}") from error


def _document(files: _Files, name: str, digest: str = "") -> bytes:
    with files.open(name) as file:
        content = file.read(MAX_DOCUMENT)
    if digest and f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise ImportFailed(f"the archive is damaged: {name} does not have its digest")
    return content


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _import_layout(
    store: ImageStore, files: _Files, name: str
) -> list[tuple[str, tuple[str, ...]]]:
    index = json.loads(_document(files, "index.json"))
    done = []
    for entry in index["manifests"]:
        named = _layout_name(entry.get("annotations") or {}, name)
        done.append(_import_entry(store, files, layout.descriptor(entry).digest, named))
    if not done:
        raise ImportFailed("the image layout is empty")
    return done


def _layout_name(annotations: dict[str, str], name: str) -> str:
    if name:
        return name
    for key in NAME_ANNOTATIONS:
        value = annotations.get(key, "")
        if ":" in value or "/" in value:  # a bare tag names no image
            return value
    return ""


def _import_entry(
    store: ImageStore, files: _Files, digest: str, name: str
) -> tuple[str, tuple[str, ...]]:
    top = digest
    document = json.loads(_document(files, _blob(digest), digest))
    if layout.is_index(document):
        digest = layout.choose_manifest(document, layout.machine_architecture()).digest
        document = json.loads(_document(files, _blob(digest), digest))
    manifest = layout.parse_manifest(document)
    config = _document(files, _blob(manifest.config.digest), manifest.config.digest)
    _add_layers(store, files, config, [_blob(layer.digest) for layer in manifest.layers])
    names = _names(name, top)
    return store.add_image(config, size=manifest.size, names=names, source="import"), names


def _import_docker(
    store: ImageStore, files: _Files, name: str
) -> list[tuple[str, tuple[str, ...]]]:
    done = []
    for entry in json.loads(_document(files, "manifest.json")):
        config = _document(files, entry["Config"])
        size = _add_layers(store, files, config, entry["Layers"]) + len(config)
        tags = [name] if name else entry.get("RepoTags") or []
        names = tuple(tagged for tag in tags for tagged in _names(tag, ""))
        image_id = store.add_image(config, size=size, names=names, source="import")
        done.append((image_id, names))
    if not done:
        raise ImportFailed("the archive holds no image")
    return done


def _add_layers(store: ImageStore, files: _Files, config: bytes, paths: list[str]) -> int:
    wanted = diff_ids(config)
    if len(wanted) != len(paths):
        raise ImportFailed("the archive is damaged: its config names other layers")
    size = 0
    for diff_id, path in zip(wanted, paths, strict=True):
        with files.open(path) as file:
            size += file.seek(0, os.SEEK_END)
            file.seek(0)
            store.add_layer(file, diff_id)
    return size


def _names(text: str, digest: str) -> tuple[str, ...]:
    if not text:
        return ()
    try:
        ref = reference.parse(text)
    except reference.InvalidReference as error:
        raise ImportFailed(str(error)) from error
    names: tuple[Any, ...] = (ref.tagged,) if ref.tag else ()
    if digest or ref.digest:
        names += (f"{ref.repository}@{digest or ref.digest}",)
    return names
