"""StorageClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storage.defaults import set_storage_class_defaults
from pilothouse.apis.storage.validation import validate_storage_class, validate_storage_class_update
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class StorageClassStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "storageclasses")
    namespaced = False
    has_status = False
    has_generation = False

    def default(self, obj: Obj) -> None:
        set_storage_class_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_storage_class(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_storage_class_update(obj, old)


STRATEGY = StorageClassStrategy()
