"""The status of a ResourceClaim: who has it, what was allocated, what drivers say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_scheduling import validate_node_selector
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    IMMUTABLE,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_many,
)
from pilothouse.apis.resource_k8s_io import validation_devices as devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_MAX_CONSUMERS = 256
_MAX_RESULTS = 32
_MAX_CONFIGS = 64
_SOURCES = ("FromClaim", "FromClass")


def validate_claim_status(claim: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status, before = claim.get("status") or {}, old.get("status") or {}
    consumers = status.get("reservedFor") or ()
    allocation = status.get("allocation")
    _consumers(errors, consumers)
    results = (((allocation or {}).get("devices")) or {}).get("results") or ()
    _devices(errors, status.get("devices") or (), results)
    if consumers and allocation is None:
        message = "may not be specified when `allocated` is not set"
        errors.append(forbidden("status.reservedFor", message))
    elif (claim.get("metadata") or {}).get("deletionTimestamp") and any(
        each not in (before.get("reservedFor") or ()) for each in consumers
    ):
        message = (
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` "
            "are set"
        )
        errors.append(forbidden("status.reservedFor", message))
    if allocation is not None and before.get("allocation") is not None:
        if not semantic_equal(allocation, before["allocation"]):
            errors.append(invalid("status.allocation", allocation, IMMUTABLE))
    elif allocation is not None:
        spec_devices = (claim.get("spec") or {}).get("devices") or {}
        known = devices.request_names(spec_devices.get("requests") or ())
        _allocation(errors, allocation, known)
    return errors


def _consumers(errors: ErrorList, consumers: Sequence[Obj]) -> None:
    path = "status.reservedFor"
    if len(consumers) > _MAX_CONSUMERS:
        errors.append(too_many(path, len(consumers), _MAX_CONSUMERS))
        return
    seen: set[str] = set()
    for i, consumer in enumerate(consumers):
        for field in ("resource", "name", "uid"):
            if not consumer.get(field):
                errors.append(required(f"{path}[{i}].{field}"))
        uid = consumer.get("uid") or ""
        if uid in seen:
            errors.append(duplicate(f"{path}[{i}]", uid))
        seen.add(uid)


def _identity(device: Obj) -> tuple[str, ...]:
    return tuple(device.get(key) or "" for key in ("driver", "pool", "device", "shareID"))


def _devices(errors: ErrorList, values: Sequence[Obj], results: Sequence[Obj]) -> None:
    allocated = {_identity(result) for result in results}
    seen: set[tuple[str, ...]] = set()
    for i, device in enumerate(values):
        path, identity = f"status.devices[{i}]", _identity(device)
        shown = "/".join(part for part in identity if part)
        if identity in seen:
            errors.append(duplicate(path, shown))
        seen.add(identity)
        if identity not in allocated:
            errors.append(invalid(path, shown, "must be an allocated device in the claim"))


def _allocation(errors: ErrorList, allocation: Obj, known: set[str]) -> None:
    path = "status.allocation"
    found = allocation.get("devices") or {}
    results, configs = found.get("results") or (), found.get("config") or ()
    if len(results) > _MAX_RESULTS:
        errors.append(too_many(f"{path}.devices.results", len(results), _MAX_RESULTS))
    for i, result in enumerate(results):
        _result(errors, result, f"{path}.devices.results[{i}]", known)
    if len(configs) > _MAX_CONFIGS:
        errors.append(too_many(f"{path}.devices.config", len(configs), _MAX_CONFIGS))
    for i, config in enumerate(configs):
        source = config.get("source") or ""
        if not source:
            errors.append(required(f"{path}.devices.config[{i}].source"))
        elif source not in _SOURCES:
            at = f"{path}.devices.config[{i}].source"
            errors.append(not_supported(at, source, _SOURCES))
    devices.configurations(errors, configs, f"{path}.devices.config", known)
    if allocation.get("nodeSelector") is not None:
        validate_node_selector(errors, allocation["nodeSelector"], f"{path}.nodeSelector")


def _result(errors: ErrorList, result: Obj, path: str, known: set[str]) -> None:
    devices.request_reference(errors, result.get("request") or "", f"{path}.request", known)
    devices.driver_name(errors, result.get("driver") or "", f"{path}.driver")
    devices.pool_name(errors, result.get("pool") or "", f"{path}.pool")
    name = result.get("device") or ""
    if not name:
        errors.append(required(f"{path}.device"))
    else:
        check.dns_label(errors, name, f"{path}.device")
    devices.tolerations(errors, result.get("tolerations") or (), f"{path}.tolerations")
