"""ResourceSlices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.resource_k8s_io.validation import validate_resource_slice
from pilothouse.apiserver.registry.builtin import BuiltInStrategy
from pilothouse.apiserver.registry.resource.devicetaintrule import set_time_added

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class ResourceSliceStrategy(BuiltInStrategy):
    resource = GroupResource("resource.k8s.io", "resourceslices")
    namespaced = False
    has_status = False
    selectable_fields = ("spec.nodeName", "spec.driver", "spec.pool.name")

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        _set_times(context, obj)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        super().prepare_for_update(context, obj, old)
        _set_times(context, obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_resource_slice(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_resource_slice(obj, old)


def _set_times(context: RegistryContext, obj: Obj) -> None:
    for device in (obj.get("spec") or {}).get("devices") or ():
        set_time_added(device.get("taints") or [], context)


STRATEGY = ResourceSliceStrategy()
