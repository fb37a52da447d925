"""LimitRanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_limit_range_defaults
from pilothouse.apis.core.validation_limitrange import validate_limit_range
from pilothouse.apiserver.registry.before import new_uid
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class LimitRangeStrategy(BuiltInStrategy):
    resource = GroupResource("", "limitranges")
    has_status = False
    has_generation = False
    allow_create_on_update = True

    def default(self, obj: Obj) -> None:
        set_limit_range_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        if not obj["metadata"].get("name"):
            obj["metadata"]["name"] = new_uid(context.random)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_limit_range(obj)


STRATEGY = LimitRangeStrategy()
