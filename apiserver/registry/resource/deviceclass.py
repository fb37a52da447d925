"""DeviceClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.resource_k8s_io.validation import validate_device_class
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class DeviceClassStrategy(BuiltInStrategy):
    resource = GroupResource("resource.k8s.io", "deviceclasses")
    namespaced = False
    has_status = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_device_class(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_device_class(obj, old)


STRATEGY = DeviceClassStrategy()
