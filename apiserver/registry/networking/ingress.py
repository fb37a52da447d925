"""Ingresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.networking.validation_ingress import (
    ingress_warnings,
    validate_ingress,
    validate_ingress_status_update,
    validate_ingress_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class IngressStrategy(BuiltInStrategy):
    resource = GroupResource("networking.k8s.io", "ingresses")

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_ingress(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_ingress_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_ingress_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return ingress_warnings(obj)


STRATEGY = IngressStrategy()
