"""Environment variables and downward-API references of containers and volumes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.validation_paths import no_backsteps
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import add_all, invalid, not_supported, required

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

ENV_FIELD_PATHS = frozenset(
    (
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    )
)
VOLUME_FIELD_PATHS = frozenset(
    (
        "metadata.name",
        "metadata.namespace",
        "metadata.labels",
        "metadata.annotations",
        "metadata.uid",
    )
)
_CONVERTIBLE = (
    ENV_FIELD_PATHS
    | VOLUME_FIELD_PATHS
    | {"spec.restartPolicy", "spec.schedulerName", "status.phase"}
)
_RESOURCES = frozenset(
    f"{kind}.{name}"
    for kind in ("limits", "requests")
    for name in ("cpu", "memory", "ephemeral-storage")
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SUBSCRIPTED = re.compile(r"(.*)\['(.*)'\]", re.DOTALL)
_BYTE_DIVISORS = (
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
)  # fmt: skip
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def validate_env(errors: ErrorList, variables: Iterable[Obj], path: str) -> None:
    for i, variable in enumerate(variables):
        name = variable.get("name") or ""
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            messages = names.is_relaxed_env_var_name(name)
            if messages:
                add_all(errors, f"{path}[{i}].name", name, messages)
        source = variable.get("valueFrom")
        if source is not None:
            _value_from(errors, source, variable.get("value") or "", f"{path}[{i}].valueFrom")


def _value_from(errors: ErrorList, source: Obj, value: str, path: str) -> None:
    count = 0
    for field in _SOURCES:
        reference = source.get(field)
        if reference is not None:
            count += 1
            _SOURCE_CHECKS[field](errors, reference, f"{path}.{field}")
    if count == 0:
        message = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
            "`secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid(path, "", message))
    elif value:
        errors.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid(path, "", "may not have more than one field specified at a time"))


def object_field_selector(
    errors: ErrorList, selector: Obj, path: str, allowed: frozenset[str] = ENV_FIELD_PATHS
) -> None:
    version, field = selector.get("apiVersion") or "", selector.get("fieldPath") or ""
    if not version:
        errors.append(required(f"{path}.apiVersion"))
        return
    if not field:
        errors.append(required(f"{path}.fieldPath"))
        return
    if version != "v1":
        message = f"error converting fieldPath: unsupported pod version: {version}"
        errors.append(invalid(f"{path}.fieldPath", field, message))
        return
    subscripted = _SUBSCRIPTED.fullmatch(field)
    if subscripted:
        base, key = subscripted.groups()
        if base == "metadata.annotations":
            check.qualified_name(errors, key.lower(), path)
        elif base == "metadata.labels":
            check.qualified_name(errors, key, path)
        else:
            message = f"error converting fieldPath: field label does not support subscript: {field}"
            errors.append(invalid(f"{path}.fieldPath", field, message))
    elif field not in _CONVERTIBLE and field != "spec.host":
        message = f"error converting fieldPath: field label not supported: {field}"
        errors.append(invalid(f"{path}.fieldPath", field, message))
    else:
        field = "spec.nodeName" if field == "spec.host" else field
        if field not in allowed:
            errors.append(not_supported(f"{path}.fieldPath", field, sorted(allowed)))


def resource_field_selector(
    errors: ErrorList, selector: Obj, path: str, *, in_volume: bool = False
) -> None:
    resource = selector.get("resource") or ""
    if in_volume and not selector.get("containerName"):
        errors.append(required(f"{path}.containerName"))
    elif not resource:
        errors.append(required(f"{path}.resource"))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE_PAGES):
        errors.append(not_supported(f"{path}.resource", resource, sorted(_RESOURCES)))
    divisor = selector.get("divisor")
    if divisor is not None:
        _divisor(errors, resource, divisor, path)


def _divisor(errors: ErrorList, resource: str, divisor: str | int, path: str) -> None:
    quantity = parse_quantity(divisor)
    if quantity == parse_quantity("0"):
        return
    text = str(quantity)
    listed = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
    if resource.endswith(".cpu"):
        if text not in ("1m", "1"):
            message = "only divisor's values 1m and 1 are supported with the cpu resource"
            errors.append(invalid(f"{path}.divisor", resource, message))
        return
    kind = {
        "memory": "memory",
        "ephemeral-storage": "local ephemeral storage",
    }.get(resource.partition(".")[2], "hugepages" if resource.startswith(_HUGE_PAGES) else "")
    if kind and text not in _BYTE_DIVISORS:
        message = f"only divisor's values {listed} are supported with the {kind} resource"
        errors.append(invalid(f"{path}.divisor", resource, message))


def _key_selector(errors: ErrorList, selector: Obj, path: str) -> None:
    name = selector.get("name") or ""
    messages = names.is_dns1123_subdomain(name)
    if messages:
        add_all(errors, f"{path}.name", name, messages)
    key = selector.get("key") or ""
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        messages = names.is_config_map_key(key)
        if messages:
            add_all(errors, f"{path}.key", key, messages)


def _file_key_selector(errors: ErrorList, selector: Obj, path: str) -> None:
    key = selector.get("key") or ""
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        messages = names.is_relaxed_env_var_name(key)
        if messages:
            add_all(errors, f"{path}.key", key, messages)
    volume = selector.get("volumeName") or ""
    if not volume:
        errors.append(required(f"{path}.volumeName"))
    else:
        check.dns_label(errors, volume, f"{path}.volumeName")
    file = selector.get("path") or ""
    if not file:
        errors.append(required(f"{path}.path"))
    else:
        no_backsteps(errors, file, f"{path}.path")


_SOURCE_CHECKS: dict[str, Callable[[ErrorList, Obj, str], None]] = {
    "fieldRef": object_field_selector,
    "resourceFieldRef": resource_field_selector,
    "configMapKeyRef": _key_selector,
    "secretKeyRef": _key_selector,
    "fileKeyRef": _file_key_selector,
}


def validate_env_from(errors: ErrorList, sources: Iterable[Obj], path: str) -> None:
    for i, source in enumerate(sources):
        prefix = source.get("prefix")
        if prefix:
            messages = names.is_relaxed_env_var_name(prefix)
            if messages:
                add_all(errors, f"{path}[{i}].prefix", prefix, messages)
        count = 0
        for field in ("configMapRef", "secretRef"):
            reference = source.get(field)
            if reference is None:
                continue
            count += 1
            name = reference.get("name") or ""
            if not name:
                errors.append(required(f"{path}[{i}].{field}.name"))
            else:
                messages = names.is_dns1123_subdomain(name, prefix=True)
                if messages:
                    add_all(errors, f"{path}[{i}].{field}.name", name, messages)
        if count == 0:
            errors.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(invalid(path, "", "may not have more than one field specified at a time"))
