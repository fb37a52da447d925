"""CSIDrivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storage.defaults import set_csi_driver_defaults
from pilothouse.apis.storage.validation_csi import validate_csi_driver
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class CSIDriverStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "csidrivers")
    namespaced = False
    has_status = False
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        set_csi_driver_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_csi_driver(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_csi_driver(obj, old)


STRATEGY = CSIDriverStrategy()
