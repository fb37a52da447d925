"""ResourceQuotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.validation_quota import (
    validate_resource_quota,
    validate_resource_quota_status_update,
    validate_resource_quota_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ResourceQuotaStrategy(BuiltInStrategy):
    resource = GroupResource("", "resourcequotas")
    has_generation = False

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_resource_quota(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_resource_quota_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_resource_quota_status_update(obj)


STRATEGY = ResourceQuotaStrategy()
