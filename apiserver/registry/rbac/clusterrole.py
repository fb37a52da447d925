"""ClusterRoles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.rbac.validation import GROUP, validate_role
from pilothouse.apiserver.registry.rbac.base import RBACStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class ClusterRoleStrategy(RBACStrategy):
    resource = GroupResource(GROUP, "clusterroles")
    namespaced = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_role(obj, namespaced=False)


STRATEGY = ClusterRoleStrategy()
