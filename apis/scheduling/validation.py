"""PriorityClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import forbidden

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

HIGHEST_USER_PRIORITY = 1000000000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_POLICIES = ("PreemptLowerPriority", "Never")


def validate_priority_class(priority_class: Obj) -> ErrorList:
    errors: ErrorList = []
    name = (priority_class.get("metadata") or {}).get("name") or ""
    value = priority_class.get("value") or 0
    if name.startswith(SYSTEM_PREFIX):
        reason = _not_a_system_class(name, value, bool(priority_class.get("globalDefault")))
        if reason:
            message = (
                "priority class names with 'system-' prefix are reserved for system use only. "
                f"error: {reason}"
            )
            errors.append(forbidden("metadata.name", message))
    elif value > HIGHEST_USER_PRIORITY:
        message = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        errors.append(forbidden("value", message))
    policy = priority_class.get("preemptionPolicy")
    if policy is not None:
        check.one_of(errors, policy, _POLICIES, "preemptionPolicy")
    return errors


def _not_a_system_class(name: str, value: int, global_default: bool) -> str:
    """IsKnownSystemPriorityClass's error."""
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    if global_default:
        return f"globalDefault of {name} PriorityClass must be false"
    return ""


def validate_priority_class_update(priority_class: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    if (priority_class.get("value") or 0) != (old.get("value") or 0):
        errors.append(forbidden("value", "may not be changed in an update."))
    new, before = priority_class.get("preemptionPolicy"), old.get("preemptionPolicy")
    check.immutable(errors, new, before, "preemptionPolicy")
    return errors
