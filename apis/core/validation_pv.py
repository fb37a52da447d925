"""PersistentVolumes, also those inside VolumeAttachments."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.spec_diff import go_diff
from pilothouse.apis.core.validation_pvc import ACCESS_MODES, VOLUME_MODES
from pilothouse.apis.core.validation_scheduling import validate_node_selector
from pilothouse.apis.core.validation_volume_sources import SOURCES
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    IMMUTABLE,
    NOT_NEGATIVE,
    NOT_POSITIVE,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_INLINE = "may not be specified in the context of inline volumes"
_SHOWN = {"gcePersistentDisk": "persistentDisk"}
_SECOND = {"cephfs": "cephFS"}
_MOUNT_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_WITHOUT_MOUNT_OPTIONS = frozenset(
    ("flocker", "hostPath", "fc", "flexVolume", "portworxVolume", "scaleIO", "local", "csi")
)


def validate_volume(volume: Obj) -> ErrorList:
    errors: ErrorList = []
    spec = volume.get("spec") or {}
    validate_volume_spec(errors, spec, "spec")
    annotations = (volume.get("metadata") or {}).get("annotations") or {}
    if _MOUNT_OPTIONS in annotations and not any(
        spec.get(field) is not None for field in SOURCES if field not in _WITHOUT_MOUNT_OPTIONS
    ):
        message = "may not specify mount options for this volume type"
        errors.append(forbidden(f"metadata.annotations.{_MOUNT_OPTIONS}", message))
    return errors


def validate_volume_spec(errors: ErrorList, spec: Obj, path: str) -> None:
    """ValidatePersistentVolumeSpec of a PersistentVolume."""
    _access_modes(errors, spec, path)
    _capacity(errors, spec.get("capacity") or {}, f"{path}.capacity")
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _RECLAIM_POLICIES:
        at = f"{path}.persistentVolumeReclaimPolicy"
        errors.append(not_supported(at, policy, _RECLAIM_POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is not None:
            validate_node_selector(errors, affinity["required"], f"{path}.nodeAffinity.required")
        else:
            message = "must specify required node constraints"
            errors.append(required(f"{path}.nodeAffinity.required", message))
    _source(errors, spec, path)
    if spec.get("storageClassName"):
        check.dns_subdomain(errors, spec["storageClassName"], f"{path}.storageClassName")
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    _attributes_class(errors, spec, path)


def validate_inline_volume_spec(errors: ErrorList, spec: Obj, path: str) -> None:
    """The spec inside a VolumeAttachment, which stands for a migrated in-line volume."""
    for field in ("claimRef", "capacity"):
        if spec.get(field):
            errors.append(forbidden(f"{path}.{field}", _INLINE))
    if spec.get("csi") is None:
        message = "has to be specified in the context of inline volumes"
        errors.append(required(f"{path}.csi", message))
    _access_modes(errors, spec, path)
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        message = "may only be Retain in the context of inline volumes"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", message))
    if spec.get("nodeAffinity") is not None:
        errors.append(forbidden(f"{path}.nodeAffinity", _INLINE))
    _source(errors, spec, path)
    if spec.get("storageClassName"):
        errors.append(forbidden(f"{path}.storageClassName", _INLINE))
    if spec.get("volumeMode") not in (None, "Filesystem"):
        message = (
            "may not specify volumeMode other than Filesystem in the context of inline volumes"
        )
        errors.append(forbidden(f"{path}.volumeMode", message))


def _access_modes(errors: ErrorList, spec: Obj, path: str) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes"))
    for mode in modes:
        if mode not in ACCESS_MODES:
            errors.append(not_supported(f"{path}.accessModes", mode, ACCESS_MODES))
    known = {mode for mode in modes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        message = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden(f"{path}.accessModes", message))


def _capacity(errors: ErrorList, capacity: Obj, path: str) -> None:
    if not capacity:
        errors.append(required(path))
    if "storage" not in capacity or len(capacity) > 1:
        shown = {name: str(amount) for name, amount in capacity.items()}
        errors.append(not_supported(path, shown, ("storage",)))
    zero = parse_quantity("0")
    for name, text in capacity.items():
        quantity = parse_quantity(text)
        if quantity < zero:
            errors.append(invalid(f"{path}[{name}]", str(quantity), NOT_NEGATIVE))
        if not zero < quantity:
            errors.append(invalid(f"{path}[{name}]", str(quantity), NOT_POSITIVE))


def _source(errors: ErrorList, spec: Obj, path: str) -> None:
    found = [field for field in SOURCES if spec.get(field) is not None]
    if not found:
        errors.append(required(path, "must specify a volume type"))
        return
    for field in found[1:]:
        if field != "flexVolume":  # upstream counts it, and does not mind
            shown = _SECOND.get(field, field)
            errors.append(forbidden(f"{path}.{shown}", "may not specify more than 1 volume type"))
    first = found[0]
    SOURCES[first](errors, spec[first], f"{path}.{_SHOWN.get(first, first)}", True)
    if first == "local" and spec.get("nodeAffinity") is None:
        message = "Local volume requires node affinity"
        errors.append(required(f"{path}.nodeAffinity", message))
    recycled = spec.get("persistentVolumeReclaimPolicy") == "Recycle"
    if first == "hostPath" and recycled and _is_root(spec["hostPath"].get("path") or ""):
        message = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", message))


def _is_root(path: str) -> bool:
    return bool(path) and posixpath.normpath(path) in ("/", "//")


def _attributes_class(errors: ErrorList, spec: Obj, path: str) -> None:
    name = spec.get("volumeAttributesClassName")
    if name is None:
        return
    at = f"{path}.volumeAttributesClassName"
    if not name:
        errors.append(required(at, "an empty string is disallowed"))
    else:
        check.dns_subdomain(errors, name, at)
    if spec.get("csi") is None:
        message = "has to be specified when using volumeAttributesClassName"
        errors.append(required(f"{path}.csi", message))


def validate_volume_update(volume: Obj, old: Obj) -> ErrorList:
    errors = validate_volume(volume)
    spec, before = volume.get("spec") or {}, old.get("spec") or {}
    new_source, old_source = _sources(spec), _sources(before)
    old_csi, new_csi = old_source.get("csi"), new_source.get("csi")
    if old_csi and new_csi and old_csi.get("controllerExpandSecretRef") is None:
        kept = {k: v for k, v in new_csi.items() if k != "controllerExpandSecretRef"}
        new_source["csi"] = kept
    if not semantic_equal(new_source, old_source):
        message = "spec.persistentvolumesource is immutable after creation\n"
        diff = go_diff(old_source, new_source)
        errors.append(forbidden("spec.persistentvolumesource", message + diff))
    if spec.get("volumeMode") != before.get("volumeMode"):
        errors.append(invalid("volumeMode", spec.get("volumeMode"), IMMUTABLE))
    if before.get("nodeAffinity") is not None and not semantic_equal(
        _with_ga_labels(spec.get("nodeAffinity")), _with_ga_labels(before["nodeAffinity"])
    ):
        message = f"{IMMUTABLE}, except for updating from beta label to GA"
        errors.append(invalid("nodeAffinity", spec.get("nodeAffinity"), message))
    if (
        before.get("volumeAttributesClassName") is not None
        and spec.get("volumeAttributesClassName") is None
    ):
        message = "update from non-nil value to nil is forbidden"
        errors.append(forbidden("spec.volumeAttributesClassName", message))
    return errors


def _sources(spec: Obj) -> Obj:
    return {field: spec[field] for field in SOURCES if spec.get(field) is not None}


_GA_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def _with_ga_labels(affinity: Obj | None) -> Obj | None:
    if affinity is None:
        return None
    terms = []
    for term in (affinity.get("required") or {}).get("nodeSelectorTerms") or ():
        expressions = [
            {**e, "key": _GA_LABELS.get(e.get("key") or "", e.get("key"))}
            for e in term.get("matchExpressions") or ()
        ]
        terms.append({**term, "matchExpressions": expressions} if expressions else term)
    return {"required": {"nodeSelectorTerms": terms}}


_OLD_SOURCES = (
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "", "deprecated in v1.28, non-functional in v1.31+"),
)


def volume_object_warnings(volume: Obj) -> list[str]:
    """GetWarningsForPersistentVolume."""
    warnings = []
    spec = volume.get("spec") or {}
    annotations = (volume.get("metadata") or {}).get("annotations") or {}
    old_class = "volume.beta.kubernetes.io/storage-class"
    if old_class in annotations:
        warnings.append(
            f"metadata.annotations[{old_class}]: deprecated since v1.8; use "
            '"storageClassName" attribute instead'
        )
    if _MOUNT_OPTIONS in annotations:
        warnings.append(
            f"metadata.annotations[{_MOUNT_OPTIONS}]: deprecated since v1.31; use "
            '"mountOptions" attribute instead'
        )
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        warnings.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )
    for field, shown, message in _OLD_SOURCES:
        if spec.get(field) is not None:
            warnings.append(f"spec.{shown or field}: {message}")
    return warnings
