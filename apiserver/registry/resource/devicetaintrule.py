"""DeviceTaintRules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.meta.conditions import validate_conditions
from pilothouse.apis.meta.errors import too_many
from pilothouse.apis.resource_k8s_io.validation_devices import taint_rule_errors
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_MAX_CONDITIONS = 8


class DeviceTaintRuleStrategy(BuiltInStrategy):
    resource = GroupResource("resource.k8s.io", "devicetaintrules")
    namespaced = False
    allow_unconditional_update = False

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}
        set_time_added([(obj.get("spec") or {}).get("taint")], context)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        super().prepare_for_update(context, obj, old)
        set_time_added([(obj.get("spec") or {}).get("taint")], context)

    def check_create(self, obj: Obj) -> ErrorList:
        return taint_rule_errors(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return taint_rule_errors(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        errors: ErrorList = []
        conditions = (obj.get("status") or {}).get("conditions") or []
        validate_conditions(errors, conditions, "status.conditions")
        if len(conditions) > _MAX_CONDITIONS:
            errors.append(too_many("status.conditions", len(conditions), _MAX_CONDITIONS))
        return errors


def set_time_added(taints: list[Obj | None], context: RegistryContext) -> None:
    """Upstream's default of a taint that does not say since when it is there."""
    for taint in taints:
        if taint is not None and taint.get("timeAdded") is None:
            taint["timeAdded"] = format_time(context.clock.now())


STRATEGY = DeviceTaintRuleStrategy()
