"""EndpointSlices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_dns1123_subdomain
from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.discovery.validation import (
    set_endpoint_slice_defaults,
    validate_endpoint_slice,
    validate_endpoint_slice_update,
)
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.validation import ip_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, bump_generation

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_HOSTNAME = "kubernetes.io/hostname"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


class EndpointSliceStrategy(BuiltInStrategy):
    resource = GroupResource("discovery.k8s.io", "endpointslices")
    has_status = False

    def default(self, obj: Obj) -> None:
        set_endpoint_slice_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        _drop_topology(obj, None)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        if not semantic_equal(meta(obj).get("labels"), meta(old).get("labels")):
            bump_generation(obj, old)
        _drop_topology(obj, old)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_endpoint_slice(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_endpoint_slice_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        deprecated = []
        if obj.get("addressType") == "FQDN":
            deprecated = ["spec.addressType: FQDN endpoints are deprecated"]
        return deprecated + _ip_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return _ip_warnings(obj)


def _drop_topology(obj: Obj, old: Obj | None) -> None:
    """deprecatedTopology is v1beta1's; a host name in it may stand for nodeName."""
    if old is not None and semantic_equal(obj.get("endpoints"), old.get("endpoints")):
        return
    known = {
        (e.get("deprecatedTopology") or {}).get(_HOSTNAME)
        for e in (old or {}).get("endpoints") or ()
    }
    for endpoint in obj.get("endpoints") or ():
        topology = endpoint.pop("deprecatedTopology", None)
        name = (topology or {}).get(_HOSTNAME)
        if name and endpoint.get("nodeName") is None and name in known:
            if not is_dns1123_subdomain(name):
                endpoint["nodeName"] = name


def _ip_warnings(obj: Obj) -> list[str]:
    if (meta(obj).get("labels") or {}).get(_MANAGED_BY) in _CONTROLLERS:
        return []
    return [
        warning
        for i, endpoint in enumerate(obj.get("endpoints") or ())
        for j, address in enumerate(endpoint.get("addresses") or ())
        for warning in ip_warnings(f"endpoints[{i}].addresses[{j}]", address)
    ]


STRATEGY = EndpointSliceStrategy()
