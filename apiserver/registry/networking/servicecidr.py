"""ServiceCIDRs: the ranges of Service addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.networking.validation_addresses import (
    validate_service_cidr,
    validate_service_cidr_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, keep_metadata

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ServiceCIDRStrategy(BuiltInStrategy):
    resource = GroupResource("networking.k8s.io", "servicecidrs")
    namespaced = False
    has_generation = False
    unmanaged_status_fields = ("metadata",)

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        keep_metadata(obj, old, "labels", "annotations", "finalizers", "ownerReferences")

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_service_cidr(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_service_cidr_update(obj, old)


STRATEGY = ServiceCIDRStrategy()
