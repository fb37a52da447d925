"""Documents of the OCI image format: media types, manifests, and which one is for this machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from pilothouse.kubelet.images.reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "riscv64": "riscv64",
}


class InvalidManifest(Exception):
    """A manifest, index or layout that this client can't use; the message says why."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def size(self) -> int:
        return self.config.size + sum(layer.size for layer in self.layers)


def machine_architecture() -> str:
    """Go's name for this machine's architecture."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def is_index(document: dict[str, Any]) -> bool:
    return document.get("mediaType") in INDEX_TYPES or "manifests" in document


def parse_manifest(document: dict[str, Any]) -> Manifest:
    """:raises InvalidManifest: schema 1, no image, or malformed."""
    if document.get("schemaVersion") != 2 or "config" not in document:
        raise InvalidManifest("unsupported manifest: schema version 2 with a config is needed")
    config = descriptor(document["config"])
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise InvalidManifest("malformed manifest: no layers")
    return Manifest(config, tuple(descriptor(layer) for layer in layers))


def descriptor(value: object) -> Descriptor:
    if not isinstance(value, dict) or not is_digest(str(value.get("digest"))):
        raise InvalidManifest("malformed manifest: a descriptor without a sha256 digest")
    size = value.get("size")
    if not isinstance(size, int) or size < 0:
        raise InvalidManifest("malformed manifest: a descriptor without a size")
    return Descriptor(str(value.get("mediaType") or ""), value["digest"], size)


def choose_manifest(index: dict[str, Any], architecture: str) -> Descriptor:
    """The entry of ``index`` for Linux on ``architecture``.

    :raises InvalidManifest: in upstream's words, when there is none.
    """
    entries = [entry for entry in index.get("manifests") or [] if isinstance(entry, dict)]
    fitting = [entry for entry in entries if _fits(entry.get("platform"), architecture)]
    if not fitting:
        raise InvalidManifest(f"no match for platform in manifest: linux/{architecture}: not found")
    # An entry that names no variant is the plain one; variants (v8, v7) come after it.
    fitting.sort(key=lambda entry: str((entry.get("platform") or {}).get("variant") or ""))
    return descriptor(fitting[0])


def _fits(platform_: object, architecture: str) -> bool:
    if platform_ is None:
        return True
    if not isinstance(platform_, dict):
        return False
    found = (platform_.get("os") or "linux", platform_.get("architecture") or architecture)
    return found == ("linux", architecture)
