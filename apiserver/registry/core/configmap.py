"""ConfigMaps: the smallest kind, good to read first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.validation_config import (
    validate_config_map,
    validate_config_map_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class ConfigMapStrategy(BuiltInStrategy):
    resource = GroupResource("", "configmaps")
    has_status = False
    has_generation = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_config_map(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_config_map_update(obj, old)


STRATEGY = ConfigMapStrategy()
