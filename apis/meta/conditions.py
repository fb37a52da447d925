"""Conditions of any kind's status (metav1 ValidateConditions)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_STATUSES = ("False", "True", "Unknown")
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_REASON_MESSAGE = (
    "a condition reason must start with alphabetic character, optionally followed by a string of "
    "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. "
    "'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex "
    "used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
)
_MAX_REASON = 1024
_MAX_MESSAGE = 32 * 1024


def validate_conditions(errors: ErrorList, conditions: Iterable[Obj], path: str) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind = condition.get("type") or ""
        if kind in seen:
            errors.append(duplicate(f"{path}[{i}]", kind))
        seen.add(kind)
        _condition(errors, condition, f"{path}[{i}]")


def _condition(errors: ErrorList, condition: Obj, path: str) -> None:
    kind, status = condition.get("type") or "", condition.get("status") or ""
    if not kind:
        errors.append(required(f"{path}.type", "is required"))
    else:
        add_all(errors, f"{path}.type", kind, names.is_qualified_name(kind))
    if not status:
        errors.append(required(f"{path}.status"))
    elif status not in _STATUSES:
        errors.append(not_supported(f"{path}.status", status, _STATUSES))
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        message = "must be greater than or equal to zero"
        errors.append(invalid(f"{path}.observedGeneration", generation, message))
    if not condition.get("lastTransitionTime"):
        errors.append(required(f"{path}.lastTransitionTime"))
    reason = condition.get("reason") or ""
    if not reason:
        errors.append(required(f"{path}.reason"))
    elif not _REASON.fullmatch(reason):
        errors.append(invalid(f"{path}.reason", reason, _REASON_MESSAGE))
    if len(reason) > _MAX_REASON:
        errors.append(too_long(f"{path}.reason", _MAX_REASON))
    if len(condition.get("message") or "") > _MAX_MESSAGE:
        errors.append(too_long(f"{path}.message", _MAX_MESSAGE))
