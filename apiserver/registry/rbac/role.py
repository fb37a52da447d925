"""Roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.rbac.validation import GROUP, validate_role
from pilothouse.apiserver.registry.rbac.base import RBACStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class RoleStrategy(RBACStrategy):
    resource = GroupResource(GROUP, "roles")
    namespaced = True

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_role(obj, namespaced=True)


STRATEGY = RoleStrategy()
