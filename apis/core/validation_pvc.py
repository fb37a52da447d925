"""PersistentVolumeClaims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.spec_diff import go_diff
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    NOT_POSITIVE,
    add_all,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def access_modes(errors: ErrorList, spec: Obj, path: str) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    for mode in modes:
        if mode not in ACCESS_MODES:
            errors.append(not_supported(f"{path}.accessModes", mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        message = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden(f"{path}.accessModes", message))


def validate_claim_spec(errors: ErrorList, spec: Obj, path: str) -> None:
    """ValidatePersistentVolumeClaimSpec."""
    access_modes(errors, spec, path)
    check.label_selector(errors, spec.get("selector"), f"{path}.selector")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    at = f"{path}.resources[storage]"
    if storage is None:
        errors.append(required(at))
    elif not parse_quantity("0") < parse_quantity(storage):
        errors.append(invalid(at, str(parse_quantity(storage)), NOT_POSITIVE))
    storage_class = spec.get("storageClassName")
    if storage_class:
        check.dns_subdomain(errors, storage_class, f"{path}.storageClassName")
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(not_supported(f"{path}.volumeMode", mode, VOLUME_MODES))
    _data_sources(errors, spec, path)
    attributes = spec.get("volumeAttributesClassName")
    if attributes:
        check.dns_subdomain(errors, attributes, f"{path}.volumeAttributesClassName")


def _data_sources(errors: ErrorList, spec: Obj, path: str) -> None:
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for field, value in (("dataSource", source), ("dataSourceRef", reference)):
        if value is not None:
            _data_source(errors, value, f"{path}.{field}")
    if reference is not None and reference.get("namespace"):
        namespace = reference["namespace"]
        check.dns_label(errors, namespace, f"{path}.dataSourceRef.namespace")
        if source is not None:
            message = "may not be specified when dataSourceRef.namespace is specified"
            errors.append(invalid(path, {}, message))
    elif source is not None and reference is not None and not semantic_equal(source, reference):
        errors.append(invalid(path, spec, "must match dataSourceRef"))


def _data_source(errors: ErrorList, source: Obj, path: str) -> None:
    group = source.get("apiGroup") or ""
    for field in ("name", "kind"):
        if not source.get(field):
            errors.append(required(f"{path}.{field}"))
    if not group and source.get("kind") != "PersistentVolumeClaim":
        message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid(path, source.get("kind") or "", message))
    if group:
        check.dns_subdomain(errors, group, f"{path}.apiGroup")


def validate_claim_template(errors: ErrorList, template: Obj, path: str) -> None:
    """The claim of an ephemeral volume: only labels and annotations, and a spec."""
    metadata = template.get("metadata") or {}
    check.annotation_map(errors, metadata.get("annotations"), f"{path}.metadata.annotations")
    check.labels(errors, metadata.get("labels"), f"{path}.metadata.labels")
    for field, value in metadata.items():
        if value and field not in ("annotations", "labels"):
            errors.append(forbidden(f"{path}.metadata.{field}", "cannot be set"))
    validate_claim_spec(errors, template.get("spec") or {}, f"{path}.spec")


def validate_claim(claim: Obj) -> ErrorList:
    errors: ErrorList = []
    validate_claim_spec(errors, claim.get("spec") or {}, "spec")
    return errors


def validate_claim_update(claim: Obj, old: Obj) -> ErrorList:
    """After binding only the requested size (up) and the attributes class may change."""
    errors = validate_claim(claim)
    spec, before = dict(claim.get("spec") or {}), old.get("spec") or {}
    bound = (claim.get("status") or {}).get("phase") == "Bound"
    shown = dict(spec)
    if not before.get("volumeName"):
        spec["volumeName"] = before.get("volumeName")
    if _class_upgrade(claim, old):
        spec["storageClassName"] = before.get("storageClassName")
    new_size, old_size = _requested(spec), _requested(before)
    if bound and new_size is not None:
        resources = dict(spec.get("resources") or {})
        resources["requests"] = {**(resources.get("requests") or {}), "storage": old_size}
        spec["resources"] = resources
    if (spec.get("volumeAttributesClassName") or "") != (
        before.get("volumeAttributesClassName") or ""
    ):
        _attributes_class(errors, spec, before)
    spec["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
    if not semantic_equal(spec, before):
        message = (
            "spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims\n"
        )
        errors.append(forbidden("spec", message + go_diff(before, shown)))
    if old_size is not None:
        _size(errors, new_size or "0", old_size, old)
    if (spec.get("volumeMode") or "Filesystem") != (before.get("volumeMode") or "Filesystem"):
        errors.append(invalid("volumeMode", spec.get("volumeMode"), "field is immutable"))
    return errors


def _requested(spec: Obj) -> str | None:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


def _size(errors: ErrorList, new: str, old_size: str, old: Obj) -> None:
    capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
    shrinks = parse_quantity(new) < parse_quantity(old_size)
    if shrinks and not parse_quantity(capacity) < parse_quantity(new):
        message = "field can not be less than status.capacity"
        errors.append(forbidden("spec.resources.requests.storage", message))


def _class_upgrade(claim: Obj, old: Obj) -> bool:
    """The class may move from the old annotation, or from nothing, into the field."""
    new, before = claim.get("spec") or {}, old.get("spec") or {}
    if before.get("storageClassName") is not None or new.get("storageClassName") is None:
        return False
    annotations = (old.get("metadata") or {}).get("annotations") or {}
    wanted = annotations.get(_CLASS_ANNOTATION)
    return wanted is None or wanted == new["storageClassName"]


def _attributes_class(errors: ErrorList, spec: Obj, before: Obj) -> None:
    path = "spec.volumeAttributesClassName"
    if before.get("volumeAttributesClassName") is not None and not spec.get(
        "volumeAttributesClassName"
    ):
        message = "update from non-nil value to nil is forbidden"
        errors.append(forbidden(path, message))


def validate_claim_status_update(claim: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status = claim.get("status") or {}
    for name, amount in (status.get("capacity") or {}).items():
        if parse_quantity(amount) < parse_quantity("0"):
            message = "must be greater than or equal to 0"
            errors.append(invalid(f"status.capacity[{name}]", str(amount), message))
    path = "status.allocatedResourceStatuses"
    for name, state in (status.get("allocatedResourceStatuses") or {}).items():
        _resource_key(errors, name, path)
        if state not in _RESIZE_STATES:
            errors.append(not_supported(path, name, _RESIZE_STATES))
    path = "status.allocatedResources"
    for name, amount in (status.get("allocatedResources") or {}).items():
        if _resource_key(errors, name, path) and parse_quantity(amount) < parse_quantity("0"):
            message = "must be greater than or equal to 0"
            errors.append(invalid(f"{path}[{name}]", str(amount), message))
    return errors


def _resource_key(errors: ErrorList, name: str, path: str) -> bool:
    """Storage is the only name of Kubernetes' own."""
    messages = names.is_qualified_name(name)
    add_all(errors, path, name, messages)
    native = "/" not in name or "kubernetes.io/" in name
    if not messages and native and name != "storage":
        errors.append(not_supported(path, name, ("storage",)))
        return False
    return not messages
