"""Events. Both served versions store the core form; old-style events have no ``eventTime``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import IMMUTABLE, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_MISMATCH = "does not match event.namespace"
_LIMITS = {"reportingInstance": 128, "action": 128, "reason": 128}
_MESSAGE_LIMIT = 1024
_FIXED = (
    *("involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count"),
    *("type", "eventTime", "action", "related", "reportingComponent", "reportingInstance"),
)


def validate_event_strictly(event: Obj) -> ErrorList:
    """What events.k8s.io/v1 asks of a new event, given in the core form."""
    errors = validate_event(event, controller_field="reportingController")
    errors += _series(event)
    if not event.get("eventTime"):
        errors.append(required("eventTime"))
    if event.get("type") not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {event.get('type') or ''}"))
    for field in ("firstTimestamp", "lastTimestamp", "count"):
        if event.get(field):
            errors.append(invalid(field, "", "needs to be unset"))
    source = event.get("source") or {}
    if source.get("component") or source.get("host"):
        errors.append(invalid("source", "", "needs to be unset"))
    return errors


def validate_event_update_strictly(event: Obj, old: Obj) -> ErrorList:
    """What events.k8s.io/v1 asks of a change: nearly nothing may."""
    errors = validate_event(event, controller_field="reportingController")
    if event.get("series") != old.get("series"):
        errors += _series(event)
    for field in _FIXED:
        if (event.get(field) or None) != (old.get(field) or None):
            shown = "reportingController" if field == "reportingComponent" else field
            errors.append(invalid(shown, event.get(field), IMMUTABLE))
    return errors


def _series(event: Obj) -> ErrorList:
    errors: ErrorList = []
    series = event.get("series")
    if series is not None:
        if (series.get("count") or 0) < 2:
            errors.append(invalid("series.count", "", "should be at least 2"))
        if not series.get("lastObservedTime"):
            errors.append(required("series.lastObservedTime"))
    return errors


def validate_event(event: Obj, controller_field: str = "reportingComponent") -> ErrorList:
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
        errors.append(required(controller_field))
    check.qualified_name(errors, controller, controller_field)
    for field, limit in _LIMITS.items():
        value = event.get(field) or ""
        if not value:
            errors.append(required(field))
        if len(value.encode()) > limit:
            errors.append(invalid(field, "", f"can have at most {limit} characters"))
    if len((event.get("message") or "").encode()) > _MESSAGE_LIMIT:
        errors.append(invalid("message", "", f"can have at most {_MESSAGE_LIMIT} characters"))
    return errors
