"""ResourceClaims and their templates, DeviceClasses and ResourceSlices: the main rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_names import is_extended
from pilothouse.apis.core.validation_scheduling import validate_node_selector
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    IMMUTABLE,
    NOT_POSITIVE,
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_many,
)
from pilothouse.apis.resource_k8s_io import validation_devices as devices
from pilothouse.apis.resource_k8s_io.selectors import validate_selectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_MAX_REQUESTS = 32
_MAX_FIRST_AVAILABLE = 8
_MAX_DEVICES = 128
_MODES = ("All", "ExactCount")
_ONE_REQUEST = "exactly one of `exactly` or `firstAvailable` is required"
_ONE_NODE_FIELD = (
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
)


def validate_claim(claim: Obj, old: Obj | None = None) -> ErrorList:
    """A ResourceClaim: its spec is immutable."""
    errors: ErrorList = []
    spec = claim.get("spec") or {}
    if old is not None:
        if not semantic_equal(spec, old.get("spec") or {}):
            errors.append(invalid("spec", spec, IMMUTABLE))
        return errors
    _claim_spec(errors, spec, "spec")
    return errors


def validate_claim_template(template: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = template.get("spec") or {}
    if old is not None:
        if not semantic_equal(spec, old.get("spec") or {}):
            errors.append(invalid("spec", spec, IMMUTABLE))
    metadata = spec.get("metadata") or {}
    for field, value in metadata.items():
        if value and field not in ("annotations", "labels"):
            shown = "uID" if field == "uid" else field  # as Go's field is named
            errors.append(forbidden(f"spec.metadata.{shown}", "cannot be set"))
    check.labels(errors, metadata.get("labels"), "spec.metadata.labels")
    check.annotation_map(errors, metadata.get("annotations"), "spec.metadata.annotations")
    _claim_spec(errors, spec.get("spec") or {}, "spec.spec")
    return errors


def _claim_spec(errors: ErrorList, spec: Obj, path: str) -> None:
    spec_devices = spec.get("devices") or {}
    requests = spec_devices.get("requests") or ()
    at = f"{path}.devices.requests"
    _named_set(errors, requests, at, _MAX_REQUESTS, whole=True)
    for i, request in enumerate(requests):
        _request(errors, request, f"{at}[{i}]")
    known = devices.request_names(requests)
    constraints = spec_devices.get("constraints") or ()
    devices.constraints(errors, constraints, f"{path}.devices.constraints", known)
    configs = spec_devices.get("config") or ()
    devices.configurations(errors, configs, f"{path}.devices.config", known)


def _named_set(
    errors: ErrorList, items: Sequence[Obj], path: str, limit: int, *, whole: bool = False
) -> None:
    if len(items) > limit:
        errors.append(too_many(path, len(items), limit))
    seen: set[str] = set()
    for i, item in enumerate(items):
        name = item.get("name") or ""
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            check.dns_label(errors, name, f"{path}[{i}].name")
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", item if whole else name))
        seen.add(name)


def _request(errors: ErrorList, request: Obj, path: str) -> None:
    exactly, choices = request.get("exactly"), request.get("firstAvailable") or ()
    if exactly is None and not choices:
        errors.append(required(path, _ONE_REQUEST))
    elif exactly is not None and choices:
        message = f"{_ONE_REQUEST}, but multiple fields are set"
        errors.append(invalid(path, None, message))
        # Of a union with two members upstream checks only some fields.
        _allocation_mode(errors, exactly, f"{path}.exactly")
        for i, choice in enumerate(choices):
            _device_class(errors, choice, f"{path}.firstAvailable[{i}]")
            _allocation_mode(errors, choice, f"{path}.firstAvailable[{i}]")
        return
    if exactly is not None:
        _device_request(errors, exactly, f"{path}.exactly")
    if choices:
        _named_set(errors, choices, f"{path}.firstAvailable", _MAX_FIRST_AVAILABLE)
        for i, choice in enumerate(choices):
            _device_request(errors, choice, f"{path}.firstAvailable[{i}]")


def _device_request(errors: ErrorList, request: Obj, path: str) -> None:
    _device_class(errors, request, path)
    validate_selectors(errors, request.get("selectors") or (), f"{path}.selectors")
    _allocation_mode(errors, request, path)


def _device_class(errors: ErrorList, request: Obj, path: str) -> None:
    device_class = request.get("deviceClassName") or ""
    if not device_class:
        errors.append(required(f"{path}.deviceClassName"))
    else:
        check.dns_subdomain(errors, device_class, f"{path}.deviceClassName")


def _allocation_mode(errors: ErrorList, request: Obj, path: str) -> None:
    devices.tolerations(errors, request.get("tolerations") or (), f"{path}.tolerations")
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All":
        if count:
            message = "must not be specified when allocationMode is 'All'"
            errors.append(invalid(f"{path}.count", count, message))
    elif mode == "ExactCount":
        if count <= 0:
            errors.append(invalid(f"{path}.count", count, NOT_POSITIVE))
    else:
        errors.append(not_supported(f"{path}.allocationMode", mode, _MODES))


def validate_device_class(device_class: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = device_class.get("spec") or {}
    before = ((old or {}).get("spec") or {}).get("selectors")
    if old is None or not semantic_equal(spec.get("selectors"), before):
        validate_selectors(errors, spec.get("selectors") or (), "spec.selectors")
    devices.configurations(errors, spec.get("config") or (), "spec.config")
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended(name):
        message = "a name must be a domain-prefixed path, such as 'example.com/my-prop'"
        errors.append(invalid("spec.extendedResourceName", name, message))
        add_all(errors, "spec.extendedResourceName", name, names.is_qualified_name(name))
    return errors


def validate_resource_slice(resource_slice: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = resource_slice.get("spec") or {}
    driver, pool = spec.get("driver") or "", spec.get("pool") or {}
    if not driver:
        errors.append(required("spec.driver"))
    else:
        check.dns_subdomain(errors, driver, "spec.driver")
    devices.pool_name(errors, pool.get("name") or "", "spec.pool.name")
    if (pool.get("generation") or 0) < 0:
        message = "must be greater than or equal to zero"
        errors.append(invalid("spec.pool.generation", pool["generation"], message))
    if (pool.get("resourceSliceCount") or 0) <= 0:
        count = pool.get("resourceSliceCount") or 0
        errors.append(invalid("spec.pool.resourceSliceCount", count, NOT_POSITIVE))
    if old is not None:
        _slice_update(errors, spec, old.get("spec") or {})
    _nodes(errors, spec)
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        message = "only one of `sharedCounters` or `devices` is allowed"
        errors.append(invalid("spec", "", message))
    _named_set(errors, spec.get("devices") or (), "spec.devices", _MAX_DEVICES)
    for i, device in enumerate(spec.get("devices") or ()):
        devices.device(errors, device, f"spec.devices[{i}]")
    return errors


def _slice_update(errors: ErrorList, spec: Obj, before: Obj) -> None:
    name, old_name = (s.get("pool", {}).get("name") for s in (spec, before))
    check.immutable(errors, name, old_name, "spec.pool.name")
    for field in ("driver", "nodeName"):
        check.immutable(errors, spec.get(field), before.get(field), f"spec.{field}")


def _nodes(errors: ErrorList, spec: Obj) -> None:
    found = []
    name, selector = spec.get("nodeName"), spec.get("nodeSelector")
    if name:
        found.append("`nodeName`")
        check.dns_subdomain(errors, name, "spec.nodeName")
    elif name is not None:
        message = "must be either unset or set to a non-empty string"
        errors.append(invalid("spec.nodeName", name, message))
    if selector is not None:
        found.append("`nodeSelector`")
        validate_node_selector(errors, selector, "spec.nodeSelector")
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            message = "must have exactly one node selector term"
            errors.append(invalid("spec.nodeSelector.nodeSelectorTerms", terms, message))
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field):
            found.append(f"`{field}`")
        elif spec.get(field) is not None:
            message = "must be either unset or set to true"
            errors.append(invalid(f"spec.{field}", False, message))
    if not found:
        errors.append(required("spec", _ONE_NODE_FIELD))
    elif len(found) > 1:
        shown = "{" + ", ".join(found) + "}"
        message = f"{_ONE_NODE_FIELD}, but multiple fields are set"
        errors.append(invalid("spec", shown, message))
