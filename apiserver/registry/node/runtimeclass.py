"""RuntimeClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.node.validation import validate_runtime_class, validate_runtime_class_update
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class RuntimeClassStrategy(BuiltInStrategy):
    resource = GroupResource("node.k8s.io", "runtimeclasses")
    namespaced = False
    has_status = False
    has_generation = False
    allow_create_on_update = True
    allow_unconditional_update = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_runtime_class(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_runtime_class_update(obj, old)


STRATEGY = RuntimeClassStrategy()
