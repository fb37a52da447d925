"""RoleBindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.rbac.validation import (
    GROUP,
    set_binding_defaults,
    validate_binding,
    validate_binding_update,
)
from pilothouse.apiserver.registry.rbac.base import RBACStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class RoleBindingStrategy(RBACStrategy):
    resource = GroupResource(GROUP, "rolebindings")
    namespaced = True

    def default(self, obj: Obj) -> None:
        set_binding_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_binding(obj, namespaced=True)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_binding_update(obj, old, namespaced=True)


STRATEGY = RoleBindingStrategy()
