"""The status of a ResourceClaim: who has it, what was allocated, what drivers say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_scheduling import validate_node_selector
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.conditions import validate_conditions
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
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
_MAX_CONDITIONS = 8
_NETWORK_LIMITS = (("interfaceName", 256), ("hardwareAddress", 128))
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
            message = "field cannot be modified once set"
            errors.append(invalid("status.allocation", allocation, message))
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
        _device(errors, device, path)
        shown = "/".join(part for part in identity if part)
        if identity in seen:
            errors.append(duplicate(path, shown))
        seen.add(identity)
        if identity not in allocated:
            errors.append(invalid(path, shown, "must be an allocated device in the claim"))


def _device(errors: ErrorList, device: Obj, path: str) -> None:
    """validateDeviceStatus: what a driver says of an allocated device."""
    devices.driver_name(errors, device.get("driver") or "", f"{path}.driver")
    devices.pool_name(errors, device.get("pool") or "", f"{path}.pool")
    name, share = device.get("device") or "", device.get("shareID")
    if not name:
        errors.append(required(f"{path}.device"))
    else:
        check.dns_label(errors, name, f"{path}.device")
    if share is not None and not _UUID.fullmatch(share):
        message = "must be a lowercase UUID in 8-4-4-4-12 format"
        errors.append(invalid(f"{path}.shareID", share, message))
    conditions = device.get("conditions") or []
    if len(conditions) > _MAX_CONDITIONS:
        errors.append(too_many(f"{path}.conditions", len(conditions), _MAX_CONDITIONS))
    validate_conditions(errors, conditions, f"{path}.conditions")
    network = device.get("networkData") or {}
    for field, limit in _NETWORK_LIMITS:
        if len((network.get(field) or "").encode()) > limit:
            errors.append(too_long(f"{path}.networkData.{field}", limit))
    for i, address in enumerate(network.get("ips") or ()):
        if not _is_interface_address(address):
            message = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
            errors.append(invalid(f"{path}.networkData.ips[{i}]", address, message))


def _is_interface_address(text: str) -> bool:
    from ipaddress import ip_interface

    try:
        return "/" in text and bool(ip_interface(text))
    except ValueError:
        return False


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
