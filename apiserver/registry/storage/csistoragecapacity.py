"""CSIStorageCapacities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storage.validation import validate_storage_capacity
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class CSIStorageCapacityStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "csistoragecapacities")
    has_status = False
    has_generation = False
    allow_unconditional_update = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_storage_capacity(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_storage_capacity(obj, old)


STRATEGY = CSIStorageCapacityStrategy()
