"""Events as events.k8s.io serves them: printed and selected by their own names.

They are stored as core Events; ``core/event_conversion.py`` goes between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.names import is_dns1123_subdomain
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.validation_event import (
    validate_event_strictly,
    validate_event_update_strictly,
)
from pilothouse.apiserver.registry.core.event import EventStrategy
from pilothouse.apiserver.registry.core.event_conversion import CONVERTER, FIELD_LABELS

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class EventsV1Strategy(EventStrategy):
    resource = GroupResource("events.k8s.io", "events")
    selectable_fields = tuple(f for f in FIELD_LABELS if not f.startswith("metadata."))

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_dns1123_subdomain(name, prefix=prefix)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_event_strictly(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_event_update_strictly(obj, old)

    def fields(self, obj: Obj) -> dict[str, str]:
        core = super().fields(_core_form(obj))
        return {label: core[field] for label, field in FIELD_LABELS.items()}

    def row(self, obj: Obj, now: datetime) -> list[Any]:
        return super().row(_core_form(obj), now)


def _core_form(obj: Obj) -> Obj:
    return obj if "involvedObject" in obj else CONVERTER.to_storage(obj)


STRATEGY = EventsV1Strategy()
