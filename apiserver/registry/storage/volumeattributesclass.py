"""VolumeAttributesClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storage.validation import validate_attributes_class
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class VolumeAttributesClassStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "volumeattributesclasses")
    namespaced = False
    has_status = False
    has_generation = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_attributes_class(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_attributes_class(obj, old)


STRATEGY = VolumeAttributesClassStrategy()
