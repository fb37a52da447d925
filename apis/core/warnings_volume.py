"""Warnings about volumes: drivers that are gone, files that lie on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apis.core.resource_names import parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj

_OLD = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}


class _File(NamedTuple):
    path: str
    source: str

    def __str__(self) -> str:
        return f'"{self.path}" ({self.source})' if self.source else f'"{self.path}"'


def volume_warnings(volumes: Iterable[Obj], path: str) -> list[str]:
    warnings = []
    for i, volume in enumerate(volumes):
        for field, message in _OLD.items():
            if volume.get(field) is not None:
                shown = "storageOS" if field == "storageos" else field
                warnings.append(f"{path}.volumes[{i}].{shown}: {message}")
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template is not None:
            at = f"{path}.volumes[{i}].ephemeral.volumeClaimTemplate.spec"
            warnings += claim_spec_warnings(template.get("spec") or {}, at)
    return warnings


def claim_spec_warnings(spec: Obj, path: str) -> list[str]:
    """GetWarningsForPersistentVolumeClaimSpec."""
    warnings = []
    resources = spec.get("resources") or {}
    for kind in ("requests", "limits"):
        amount = (resources.get(kind) or {}).get("storage")
        if amount is not None and parse_quantity(amount).milli_value() % 1000:
            warnings.append(
                f'{path}.resources.{kind}[storage]: fractional byte value "{amount}" is invalid, '
                "must be an integer"
            )
    return warnings


def overlapping_paths(volumes: Iterable[Obj]) -> list[str]:
    """warningsForOverlappingVirtualPaths."""
    warnings = []
    for volume in volumes:
        name = volume.get("name") or ""
        for field, label, key in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "", ""),
        ):
            source = volume.get(field)
            if source is None or source.get("items") is None:
                continue
            shown = f'{label} "{source.get(key) or ""}"' if label else "DownwardAPI"
            files = [_File(item.get("path") or "", "") for item in source["items"]]
            warnings += [_overlap(name, shown, text) for text in _collisions(files)]
        if volume.get("projected") is not None:
            warnings += _projected(name, volume["projected"])
    return warnings


def _overlap(volume: str, source: str, text: str) -> str:
    return f'volume "{volume}" ({source}): overlapping paths: {text}'


def _projected(name: str, projected: Obj) -> list[str]:
    warnings, files = [], []
    for source in projected.get("sources") or ():
        if not source:
            warnings.append(f'volume "{name}" (Projected) has no sources provided')
            continue
        files += _projected_files(source)
    return warnings + [_overlap(name, "Projected", text) for text in _collisions(files)]


def _projected_files(source: Obj) -> list[_File]:
    for field, label in (("configMap", "ConfigMap"), ("secret", "Secret")):
        listed = source.get(field)
        if listed is not None and listed.get("items") is not None:
            shown = f'{label} "{listed.get("name") or ""}"'
            return [_File(item.get("path") or "", shown) for item in listed["items"]]
    if (source.get("downwardAPI") or {}).get("items") is not None:
        items = source["downwardAPI"]["items"]
        return [_File(item.get("path") or "", "DownwardAPI") for item in items]
    if source.get("serviceAccountToken") is not None:
        return [_File(source["serviceAccountToken"].get("path") or "", "ServiceAccountToken")]
    if source.get("clusterTrustBundle") is not None:
        bundle = source["clusterTrustBundle"]
        owner = bundle.get("name")
        owner = bundle.get("signerName") or "" if owner is None else owner
        return [_File(bundle.get("path") or "", f'ClusterTrustBundle "{owner}"')]
    certificate = source.get("podCertificate") or {}
    labels = {
        "certificateChainPath": "PodCertificate chain",
        "keyPath": "PodCertificate key",
        "credentialBundlePath": "PodCertificate credential bundle",
    }
    return [_File(certificate[k], label) for k, label in labels.items() if certificate.get(k)]


def _collisions(files: Iterable[_File]) -> list[str]:
    found: list[str] = []
    before: list[_File] = []
    for file in files:
        file = file._replace(path=file.path.rstrip("/"))
        if file.path:
            found += [f"{file} with {other}" for other in before if _touch(file.path, other.path)]
        before.append(file)
    return found


def _touch(first: str, second: str) -> bool:
    a, b = f"{first}/", f"{second}/"
    return bool(second) and (a.startswith(b) or b.startswith(a))
