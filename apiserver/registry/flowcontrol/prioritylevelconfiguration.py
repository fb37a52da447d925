"""PriorityLevelConfigurations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.flowcontrol.defaults import set_priority_level_defaults
from pilothouse.apis.flowcontrol.validation import validate_conditions, validate_priority_level
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class PriorityLevelConfigurationStrategy(BuiltInStrategy):
    resource = GroupResource("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations")
    namespaced = False

    def default(self, obj: Obj) -> None:
        set_priority_level_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_priority_level(obj) + validate_conditions(obj)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_conditions(obj)


STRATEGY = PriorityLevelConfigurationStrategy()
