"""Leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta.errors import forbidden, invalid

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def validate_lease(lease: Obj) -> ErrorList:
    errors: ErrorList = []
    spec = lease.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        message = "must be greater than or equal to 0"
        errors.append(invalid("spec.leaseTransitions", transitions, message))
    if spec.get("preferredHolder") and not spec.get("strategy"):
        message = "may only be specified if `strategy` is defined"
        errors.append(forbidden("spec.preferredHolder", message))
    return errors
