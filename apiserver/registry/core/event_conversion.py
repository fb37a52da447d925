"""events.k8s.io/v1 Events to core/v1 Events, which are stored, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_TO_CORE = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_FROM_CORE = {core: name for name, core in _TO_CORE.items()}
_ALWAYS_IN_CORE: tuple[tuple[str, object], ...] = (
    ("involvedObject", dict),
    ("source", dict),
    ("firstTimestamp", None),
    ("lastTimestamp", None),
    ("eventTime", None),
    ("reportingComponent", str),
    ("reportingInstance", str),
)
_ALWAYS_IN_EVENTS: tuple[tuple[str, object], ...] = (
    ("eventTime", None),
    ("regarding", dict),
    ("deprecatedSource", dict),
    ("deprecatedFirstTimestamp", None),
    ("deprecatedLastTimestamp", None),
)
"""Fields that Go encodes even when they are empty: those without omitempty."""

FIELD_LABELS = {
    "reason": "reason",
    "regarding.kind": "involvedObject.kind",
    "regarding.namespace": "involvedObject.namespace",
    "regarding.name": "involvedObject.name",
    "regarding.uid": "involvedObject.uid",
    "regarding.apiVersion": "involvedObject.apiVersion",
    "regarding.resourceVersion": "involvedObject.resourceVersion",
    "regarding.fieldPath": "involvedObject.fieldPath",
    "reportingController": "reportingComponent",
    "type": "type",
    "metadata.namespace": "metadata.namespace",
    "metadata.name": "metadata.name",
}
"""What events.k8s.io field selectors are called in the core form."""


class EventConverter:
    """``registry.resources.Converter`` of events.k8s.io/v1."""

    field_labels = FIELD_LABELS

    def to_storage(self, obj: Obj) -> Obj:
        converted = _renamed(obj, _TO_CORE, "v1")
        _fill(converted, _ALWAYS_IN_CORE)
        return converted

    def from_storage(self, obj: Obj) -> Obj:
        converted = _renamed(obj, _FROM_CORE, "events.k8s.io/v1")
        _fill(converted, _ALWAYS_IN_EVENTS)
        return converted


def _renamed(obj: Obj, names: dict[str, str], api_version: str) -> Obj:
    converted: Obj = {"kind": "Event", "apiVersion": api_version}
    for key, value in obj.items():
        if key not in ("kind", "apiVersion"):
            converted[names.get(key, key)] = value
    return converted


def _fill(obj: Obj, fields: tuple[tuple[str, object], ...]) -> None:
    for field, empty in fields:
        if field not in obj:
            obj[field] = empty() if callable(empty) else empty


CONVERTER = EventConverter()
