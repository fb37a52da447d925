"""Events. Both served versions store the core form; old-style events have no ``eventTime``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_MISMATCH = "does not match event.namespace"
_LIMITS = {"reportingInstance": 128, "action": 128, "reason": 128}
_MESSAGE_LIMIT = 1024


def validate_event(event: Obj) -> ErrorList:
    """legacyValidateEvent, with the core names of fields."""
    errors: ErrorList = []
    namespace = (event.get("metadata") or {}).get("namespace") or ""
    involved = (event.get("involvedObject") or {}).get("namespace") or ""
    path = "involvedObject.namespace"
    if not event.get("eventTime"):
        allowed = (namespace,) if involved else ("", "default")
        if (involved and involved != namespace) or (not involved and namespace not in allowed):
            errors.append(invalid(path, involved, _MISMATCH))
        return errors
    if not involved and namespace not in ("default", "kube-system"):
        errors.append(invalid(path, involved, _MISMATCH))
    controller = event.get("reportingComponent") or ""
    if not controller:
        errors.append(required("reportingComponent"))
    check.qualified_name(errors, controller, "reportingComponent")
    for field, limit in _LIMITS.items():
        value = event.get(field) or ""
        if not value:
            errors.append(required(field))
        if len(value.encode()) > limit:
            errors.append(invalid(field, "", f"can have at most {limit} characters"))
    if len((event.get("message") or "").encode()) > _MESSAGE_LIMIT:
        errors.append(invalid("message", "", f"can have at most {_MESSAGE_LIMIT} characters"))
    return errors
