"""PersistentVolumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.core.defaults_objects import set_persistent_volume_defaults
from pilothouse.apis.core.validation_pv import (
    validate_volume,
    validate_volume_update,
    volume_object_warnings,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class PersistentVolumeStrategy(BuiltInStrategy):
    resource = GroupResource("", "persistentvolumes")
    namespaced = False
    has_generation = False

    def default(self, obj: Obj) -> None:
        set_persistent_volume_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        now = format_time(context.clock.now())
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": now}

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        status, before = obj.setdefault("status", {}), old.get("status") or {}
        given, known = status.get("lastPhaseTransitionTime"), before.get("lastPhaseTransitionTime")
        if status.get("phase") == before.get("phase"):
            if given is None and known is not None:
                status["lastPhaseTransitionTime"] = known
        elif given is None or given == known:
            status["lastPhaseTransitionTime"] = format_time(context.clock.now())

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_volume(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_volume_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return volume_object_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return volume_object_warnings(obj)

    def fields(self, obj: Obj) -> dict[str, str]:
        fields = super().fields(obj)
        fields["name"] = fields["metadata.name"]
        return fields


STRATEGY = PersistentVolumeStrategy()
