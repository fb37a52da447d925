"""StorageClasses, VolumeAttributesClasses, VolumeAttachments and CSIStorageCapacities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.validation_pv import validate_inline_volume_spec
from pilothouse.apis.core.validation_volume_sources import csi_driver_name
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    CASELESS_SUBDOMAIN,
    IMMUTABLE,
    NOT_NEGATIVE,
    duplicate,
    forbidden,
    inclusive_range,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


_MAX_PARAMETERS = 512
_MAX_SIZE = 256 * 1024
_MAX_ERROR_MESSAGE = 1024
_RECLAIM_POLICIES = ("Delete", "Retain")
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")


def validate_storage_class(storage_class: Obj) -> ErrorList:
    errors: ErrorList = []
    _provisioner(errors, storage_class.get("provisioner") or "", "provisioner")
    _parameters(errors, storage_class.get("parameters") or {})
    policy = storage_class.get("reclaimPolicy")
    if policy and policy not in _RECLAIM_POLICIES:
        errors.append(not_supported("reclaimPolicy", policy, _RECLAIM_POLICIES))
    mode = storage_class.get("volumeBindingMode")
    if mode is None:
        errors.append(required("volumeBindingMode"))
    elif mode not in _BINDING_MODES:
        errors.append(not_supported("volumeBindingMode", mode, _BINDING_MODES))
    _topologies(errors, storage_class.get("allowedTopologies") or ())
    return errors


def validate_storage_class_update(storage_class: Obj, old: Obj) -> ErrorList:
    errors = validate_storage_class(storage_class)
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if not semantic_equal(storage_class.get(field), old.get(field)):
            errors.append(invalid(field, storage_class.get(field), IMMUTABLE))
    return errors


def _provisioner(errors: ErrorList, value: str, path: str) -> None:
    if not value:
        errors.append(required(path))
    else:
        check.qualified_name(errors, value.lower(), path)


def _parameters(errors: ErrorList, parameters: Obj) -> None:
    if len(parameters) > _MAX_PARAMETERS:
        errors.append(too_long("parameters", _MAX_PARAMETERS))
        return
    size = 0
    for key, value in parameters.items():
        if not key:
            errors.append(invalid("parameters", key, "field can not be empty."))
        size += len(key.encode()) + len(value.encode())
    if size > _MAX_SIZE:
        errors.append(too_long("parameters", _MAX_SIZE))


def _topologies(errors: ErrorList, terms: list[Obj] | tuple[()]) -> None:
    seen: list[dict[str, frozenset[str]]] = [{} for _ in terms]  # as upstream: empty terms repeat
    for i, term in enumerate(terms):
        path = f"allowedTopologies[{i}].matchLabelExpressions"
        found: dict[str, frozenset[str]] = {}
        for j, requirement in enumerate(term.get("matchLabelExpressions") or ()):
            at, key = f"{path}[{j}]", requirement.get("key") or ""
            _topology_requirement(errors, requirement, at)
            if key in found:
                errors.append(duplicate(f"{at}.key", key))
            found[key] = frozenset(requirement.get("values") or ())
        if found in seen:
            errors.append(duplicate(path, ""))
        seen.append(found)


def _topology_requirement(errors: ErrorList, requirement: Obj, path: str) -> None:
    values = requirement.get("values") or ()
    if not values:
        errors.append(required(f"{path}.values"))
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value in seen:
            errors.append(duplicate(f"{path}.values[{i}]", value))
        seen.add(value)
    key = requirement.get("key") or ""
    for message in names.is_qualified_name(key):
        errors.append(invalid(f"{path}.key", key, message))


def validate_attributes_class(attributes_class: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    parameters = attributes_class.get("parameters") or {}
    if old is not None:
        if attributes_class.get("driverName") != old.get("driverName"):
            errors.append(forbidden("driverName", "updates to driverName are forbidden."))
        if parameters != (old.get("parameters") or {}):
            errors.append(forbidden("parameters", "updates to parameters are forbidden."))
    _provisioner(errors, attributes_class.get("driverName") or "", "driverName")
    _parameters(errors, parameters)
    if not parameters:
        errors.append(required("parameters", "must contain at least one key/value pair"))
    return errors


def _attacher(errors: ErrorList, name: str) -> None:
    """validateAttacher: as a CSI driver's name, in the words of another rule."""
    before = len(errors)
    csi_driver_name(errors, name, "spec.attacher")
    for i in range(before, len(errors)):
        if errors[i].reason == "FieldValueInvalid" and "RFC 1123" in errors[i].detail:
            errors[i] = invalid("spec.attacher", name, CASELESS_SUBDOMAIN)


def validate_attachment(attachment: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = attachment.get("spec") or {}
    _attacher(errors, spec.get("attacher") or "")
    _attachment_source(errors, spec.get("source") or {})
    check.dns_subdomain(errors, spec.get("nodeName") or "", "spec.nodeName")
    _attachment_status(errors, attachment.get("status") or {})
    volume = (spec.get("source") or {}).get("persistentVolumeName")
    if volume is not None:
        check.dns_subdomain(errors, volume, "spec.source.persistentVolumeName")
    if old is not None and not semantic_equal(spec, old.get("spec") or {}):
        errors.append(invalid("spec", spec, IMMUTABLE))
    return errors


def validate_attachment_status_update(attachment: Obj) -> ErrorList:
    errors: ErrorList = []
    _attachment_status(errors, attachment.get("status") or {})
    return errors


def _attachment_source(errors: ErrorList, source: Obj) -> None:
    path = "spec.source"
    inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    message = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and volume is None:
        errors.append(required(path, message))
    elif inline is not None and volume is not None:
        errors.append(forbidden(path, message))
    elif inline is not None:
        validate_inline_volume_spec(errors, inline, f"{path}.inlineVolumeSpec")
    elif not volume:
        message = "must specify non empty persistentVolumeName"
        errors.append(required(f"{path}.persistentVolumeName", message))


def _attachment_status(errors: ErrorList, status: Obj) -> None:
    metadata = status.get("attachmentMetadata") or {}
    if sum(len(k.encode()) + len(v.encode()) for k, v in metadata.items()) > _MAX_SIZE:
        errors.append(too_long("status.attachmentMetadata", _MAX_SIZE))
    for field in ("attachError", "detachError"):
        error = status.get(field) or {}
        if len((error.get("message") or "").encode()) > _MAX_ERROR_MESSAGE:
            errors.append(too_long(f"status.{field}.message", _MAX_ERROR_MESSAGE))
        code = error.get("errorCode")
        if code is not None and code < 0:
            message = inclusive_range(0, 2**31 - 1)
            errors.append(invalid(f"status.{field}.errorCode", code, message))


def validate_storage_capacity(capacity: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    if old is not None:
        for field in ("nodeTopology", "storageClassName"):
            if not semantic_equal(capacity.get(field), old.get(field)):
                errors.append(invalid(field, capacity.get(field), IMMUTABLE))
    check.label_selector(errors, capacity.get("nodeTopology"), "nodeTopology")
    check.dns_subdomain(errors, capacity.get("storageClassName") or "", "storageClassName")
    amount = capacity.get("capacity")
    if amount is not None and parse_quantity(amount) < parse_quantity("0"):
        errors.append(invalid("capacity", str(amount), NOT_NEGATIVE))
    return errors
