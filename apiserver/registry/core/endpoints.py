"""Endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_endpoints_defaults
from pilothouse.apis.core.validation_endpoints import validate_endpoints
from pilothouse.apis.meta.validation import ip_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
_MANAGED_BY = "endpoints.kubernetes.io/managed-by"


class EndpointsStrategy(BuiltInStrategy):
    resource = GroupResource("", "endpoints")
    has_status = False
    has_generation = False
    allow_create_on_update = True

    def default(self, obj: Obj) -> None:
        set_endpoints_defaults(obj)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_endpoints(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_endpoints(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        if (meta(obj).get("labels") or {}).get(_MANAGED_BY) == "endpoint-controller":
            return []
        return [_DEPRECATED, *_ip_warnings(obj)]

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return self.warnings_on_create(context, obj)


def _ip_warnings(obj: Obj) -> list[str]:
    warnings: list[str] = []
    for i, subset in enumerate(obj.get("subsets") or ()):
        for field in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(field) or ()):
                path = f"subsets[{i}].{field}[{j}].ip"
                warnings += ip_warnings(path, address.get("ip") or "")
    return warnings


STRATEGY = EndpointsStrategy()
