"""Events (core/v1 and, converted, events.k8s.io/v1): forgotten after an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_path_segment_name
from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.validation_event import validate_event
from pilothouse.apiserver.registry.builtin import BuiltInStrategy
from pilothouse.apiserver.registry.strategy import UNSUPPORTED

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


class EventStrategy(BuiltInStrategy):
    resource = GroupResource("", "events")

    def default_propagation(self, obj: Obj) -> str:
        return UNSUPPORTED

    has_status = False
    has_generation = False
    allow_create_on_update = True
    ttl_seconds = 3600
    selectable_fields = (
        *(f"involvedObject.{field}" for field in _INVOLVED),
        "reason",
        "reportingComponent",
        "source",
        "type",
    )

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_path_segment_name(name, prefix=prefix)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_event(obj)

    def fields(self, obj: Obj) -> dict[str, str]:
        involved, metadata = obj.get("involvedObject") or {}, meta(obj)
        controller = obj.get("reportingComponent") or ""
        fields = {f"involvedObject.{field}": involved.get(field) or "" for field in _INVOLVED}
        fields["reason"] = obj.get("reason") or ""
        fields["reportingComponent"] = controller
        fields["source"] = (obj.get("source") or {}).get("component") or controller
        fields["type"] = obj.get("type") or ""
        fields["metadata.name"] = metadata.get("name") or ""
        fields["metadata.namespace"] = metadata.get("namespace") or ""
        return fields


STRATEGY = EventStrategy()
