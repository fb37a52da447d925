"""Writes OCI image layouts: trees of files become layers, layers become images.

build_images.py says what is in them. Output depends on the input alone: no times, sorted paths,
everything owned by root.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_MEDIA = "application/vnd.oci.image"
_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Entry:
    """A file (``content``: bytes, or a file to copy), a link (``target``) or a folder."""

    mode: int
    content: bytes | Path | None = None
    target: str = ""

    @property
    def kind(self) -> bytes:
        if self.target:
            return tarfile.SYMTYPE
        return tarfile.DIRTYPE if self.content is None else tarfile.REGTYPE


Tree = Mapping[str, Entry]


@dataclass(frozen=True)
class Layer:
    """A stored layer: how manifests refer to it, and the digest of its unpacked tar."""

    descriptor: dict[str, Any]
    diff_id: str


@dataclass(frozen=True)
class Image:
    """A reference with its layers (bottom first, by name) and what a container of it runs."""

    reference: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    ports: tuple[int, ...] = ()


class Layout:
    """A layout in the making; ``close`` writes its index."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._platform = {"architecture": architecture, "os": "linux"}
        self._images: list[dict[str, Any]] = []

    def read(self, digest: str) -> bytes:
        return (self._blobs / digest.partition(":")[2]).read_bytes()

    def add_layer(self, tree: Tree) -> Layer:
        tar = pack(tree)
        zipped = gzip.compress(tar, 6, mtime=0)
        return Layer(self._add(zipped, "layer.v1.tar+gzip"), _digest(tar))

    def add_image(self, image: Image, layers: Sequence[Layer]) -> dict[str, Any]:
        """The descriptor of the image's manifest."""
        config = {
            "Entrypoint": image.entrypoint,
            "Cmd": image.cmd,
            "User": image.user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "ExposedPorts": {f"{port}/tcp": {} for port in image.ports},
            # Two tags of one program are to have two ids: update tests look at them.
            "Labels": {_NAME: image.reference},
        }
        described = {
            **self._platform,
            "created": "1970-01-01T00:00:00Z",
            "config": {key: value for key, value in config.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": self._add_json(described, "config.v1+json"),
            "layers": [layer.descriptor for layer in layers],
        }
        descriptor = self._add_json(manifest, "manifest.v1+json") | {"platform": self._platform}
        self._images.append({**descriptor, "annotations": {_NAME: image.reference}})
        return descriptor

    def close(self) -> None:
        index = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.index.v1+json",
            "manifests": self._images,
        }
        (self._folder / "index.json").write_text(json.dumps(index, indent=1))
        (self._folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))

    def _add_json(self, value: object, media: str) -> dict[str, Any]:
        return self._add(json.dumps(value, sort_keys=True).encode(), media)

    def _add(self, data: bytes, media: str) -> dict[str, Any]:
        digest = _digest(data)
        (self._blobs / digest.partition(":")[2]).write_bytes(data)
        return {"mediaType": f"{_MEDIA}.{media}", "digest": digest, "size": len(data)}


def pack(tree: Tree) -> bytes:
    """A tar of the tree; folders above its paths are made when they are not in it."""
    above = {str(parent) for path in tree for parent in PurePosixPath(path).parents}
    folders = dict.fromkeys(above - {"."}, Entry(0o755))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted({**folders, **tree}.items()):
            content = entry.content
            data = content.read_bytes() if isinstance(content, Path) else content or b""
            header = tarfile.TarInfo(path)
            header.type, header.mode = entry.kind, entry.mode
            header.linkname, header.size = entry.target, len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
