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
    from pilothouse.apiserver.registry.context import RegistryContext

_TOKENS = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to "
    "prevent possible logging of tokens in volume attributes"
)


class CSIDriverStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "csidrivers")
    namespaced = False
    has_status = False
    has_generation = False
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        set_csi_driver_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_csi_driver(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_csi_driver(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        spec = obj.get("spec") or {}
        if spec.get("tokenRequests") and spec.get("serviceAccountTokenInSecrets") is None:
            return [_TOKENS]
        return []

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        requests = [(part.get("spec") or {}).get("tokenRequests") or [] for part in (obj, old)]
        return [] if requests[0] == requests[1] else self.warnings_on_create(context, obj)


STRATEGY = CSIDriverStrategy()
