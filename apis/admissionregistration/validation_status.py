"""``status`` of a ValidatingAdmissionPolicy: warnings of type checking, conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta.conditions import validate_conditions
from pilothouse.apis.meta.errors import required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def validate_policy_status(policy: Obj) -> ErrorList:
    errors: ErrorList = []
    status = policy.get("status") or {}
    warnings = (status.get("typeChecking") or {}).get("expressionWarnings") or ()
    for i, warning in enumerate(warnings):
        at = f"status.typeChecking.expressionWarnings[{i}]"
        if not warning.get("warning"):
            errors.append(required(f"{at}.warning"))
        if not (warning.get("fieldRef") or "").strip():
            errors.append(required(f"{at}.fieldRef"))
    validate_conditions(errors, status.get("conditions") or (), "status.conditions")
    return errors
