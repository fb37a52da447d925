"""CSINodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storage.validation_csi import validate_csi_node
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class CSINodeStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "csinodes")
    namespaced = False
    has_generation = False
    allow_unconditional_update = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_csi_node(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_csi_node(obj, old)


STRATEGY = CSINodeStrategy()
