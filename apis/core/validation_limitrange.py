"""LimitRanges: names of resources, and that minima, maxima and defaults agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core import resource_names
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.core.resource_requests import parse_list
from pilothouse.apis.core.validation_resources import (
    container_resource_name_messages,
    resource_name_messages,
)
from pilothouse.apis.meta.errors import add_all, duplicate, forbidden, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.quantity import Quantity

_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_MAX_MILLI = (1 << 63) // 1000 - 1
Bounds = dict[str, "Quantity"]


def validate_limit_range(limit_range: Obj) -> ErrorList:
    errors: ErrorList = []
    seen: set[str] = set()
    for i, limit in enumerate((limit_range.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{i}]", limit.get("type") or ""
        _type(errors, kind, f"{path}.type")
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        _limit(errors, limit, kind, path)
    return errors


def _type(errors: ErrorList, kind: str, path: str) -> None:
    messages = names.is_qualified_name(kind)
    if messages:
        add_all(errors, path, kind, messages)
    elif "/" not in kind and kind not in _TYPES:
        message = "must be a standard limit type or fully qualified"
        errors.append(invalid(path, kind, message))


def _limit(errors: ErrorList, limit: Obj, kind: str, path: str) -> None:
    fields = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
    if kind == "Pod":
        for field in ("default", "defaultRequest"):
            fields.remove(field)
            if limit.get(field):
                message = "may not be specified when `type` is 'Pod'"
                errors.append(forbidden(f"{path}.{field}", message))
    strict = kind in ("Pod", "Container")
    messages_of = container_resource_name_messages if strict else resource_name_messages
    bounds: dict[str, Bounds] = {}
    for field in fields:
        listed = limit.get(field) or {}
        for name in listed:
            messages = messages_of(name)
            if messages:
                add_all(errors, f"{path}.{field}[{name}]", name, messages)
        try:
            bounds[field] = parse_list(listed)
        except ValueError:
            bounds[field] = {}
    if kind == "PersistentVolumeClaim" and not any(
        "storage" in (limit.get(field) or {}) for field in ("min", "max")
    ):
        message = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", message))
    for name in sorted({name for listed in bounds.values() for name in listed}):
        _agree(errors, bounds, name, path)


_ORDER = (
    # smaller, larger, path, shown, text
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _agree(errors: ErrorList, bounds: dict[str, Bounds], name: str, path: str) -> None:
    found = {field: listed[name] for field, listed in bounds.items() if name in listed}
    for smaller, larger, field, shown, text in _ORDER:
        if smaller in found and larger in found and found[larger] < found[smaller]:
            message = text.format(found[smaller], found[larger])
            errors.append(invalid(f"{path}.{field}[{name}]", str(found[shown]), message))
    ratio = found.get("maxLimitRequestRatio")
    if ratio is not None:
        _ratio(errors, found, ratio, f"{path}.maxLimitRequestRatio[{name}]")
    default, request = found.get("default"), found.get("defaultRequest")
    if default is not None and request is not None and default != request:
        if not resource_names.is_overcommit_allowed(name):
            message = (
                f"default value {default} must equal to defaultRequest value {request} in {name}"
            )
            errors.append(invalid(f"{path}.defaultRequest[{name}]", str(request), message))


def _ratio(errors: ErrorList, found: Bounds, ratio: Quantity, path: str) -> None:
    if ratio < parse_quantity("1"):
        errors.append(invalid(path, str(ratio), f"ratio {ratio} is less than 1"))
    if "min" not in found or "max" not in found:
        return
    values = (found["min"].value(), found["max"].value(), ratio.value())
    if all(v < _MAX_MILLI for v in values):
        low, high = found["min"].milli_value(), found["max"].milli_value()
        wanted = ratio.milli_value() / 1000
    else:
        low, high, wanted = values[0], values[1], float(values[2])
    limit = high / low if low else float("inf")
    if wanted > limit:
        message = f"ratio {ratio} is greater than max/min = {limit:f}"
        errors.append(invalid(path, str(ratio), message))
