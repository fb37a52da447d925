"""PriorityClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_forbidden
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.scheduling.validation import (
    validate_priority_class,
    validate_priority_class_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class PriorityClassStrategy(BuiltInStrategy):
    resource = GroupResource("scheduling.k8s.io", "priorityclasses")
    namespaced = False
    has_status = False
    has_generation = False  # it is 1 and stays so

    def default(self, obj: Obj) -> None:
        if obj.get("preemptionPolicy") is None:
            obj["preemptionPolicy"] = "PreemptLowerPriority"

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["metadata"]["generation"] = 1

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_priority_class(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_priority_class_update(obj, old)

    def mark_for_deletion(self, context: RegistryContext, obj: Obj) -> Obj | None:
        name = obj["metadata"]["name"]
        if name in ("system-cluster-critical", "system-node-critical"):
            reason = "this is a system priority class and cannot be deleted"
            raise new_forbidden(self.resource, name, reason)
        return None


STRATEGY = PriorityClassStrategy()
