"""IngressClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.networking.defaults import set_ingress_class_defaults
from pilothouse.apis.networking.validation_ingress import validate_ingress_class
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class IngressClassStrategy(BuiltInStrategy):
    resource = GroupResource("networking.k8s.io", "ingressclasses")
    namespaced = False
    has_status = False

    def default(self, obj: Obj) -> None:
        set_ingress_class_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_ingress_class(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_ingress_class(obj, old)


STRATEGY = IngressClassStrategy()
