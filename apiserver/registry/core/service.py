"""Services: addresses and ports are allocated around the write.

Upstream allocates before it validates. Here families and carried-over values are filled in by
``prepare_*``, so that validation sees the same, and addresses and ports are taken in ``begin_*``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.names import is_dns1123_label
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_service import (
    externally_accessible,
    needs_health_check,
    set_service_defaults,
)
from pilothouse.apis.core.validation_service import (
    service_warnings,
    validate_service,
    validate_service_status_update,
    validate_service_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.strategy import Rollback


class ServiceStrategy(BuiltInStrategy):
    resource = GroupResource("", "services")
    has_generation = False
    allow_create_on_update = True
    selectable_fields = ("spec.clusterIP", "spec.type")

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_dns1123_label(name, prefix=prefix)

    def default(self, obj: Obj) -> None:
        set_service_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        if context.allocators is not None:
            context.allocators.init_ip_families(obj, None)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        old_spec = old.get("spec") or {}
        _carry_over(obj, spec, old, old_spec)
        _normalize_cluster_ips(spec, old_spec)
        if context.allocators is not None:
            context.allocators.init_ip_families(obj, old)
        _drop_by_type(obj, spec, old, old_spec)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_service(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_service_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_service_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return service_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return service_warnings(obj)

    def begin_create(self, context: RegistryContext, obj: Obj, dry_run: bool) -> Rollback | None:
        if context.allocators is None:
            return None
        undo: Rollback = context.allocators.allocate_create(obj, dry_run=dry_run)
        return undo

    def begin_update(
        self, context: RegistryContext, obj: Obj, old: Obj, dry_run: bool
    ) -> Rollback | None:
        if context.allocators is None:
            return None
        undo: Rollback = context.allocators.allocate_update(obj, old, dry_run=dry_run)
        return undo

    def after_delete(self, context: RegistryContext, obj: Obj) -> None:
        if context.allocators is not None:
            context.allocators.release_service(obj)


def _needs_cluster_ip(spec: Obj) -> bool:
    return spec.get("type") != "ExternalName"


def _needs_node_port(spec: Obj) -> bool:
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def _carry_over(obj: Obj, spec: Obj, old: Obj, old_spec: Obj) -> None:
    """patchAllocatedValues: an update that leaves allocated values out keeps them."""
    if _needs_cluster_ip(old_spec) and _needs_cluster_ip(spec):
        if not spec.get("clusterIP") and old_spec.get("clusterIP"):
            spec["clusterIP"] = old_spec["clusterIP"]
        if not spec.get("clusterIPs") and old_spec.get("clusterIPs"):
            spec["clusterIPs"] = list(old_spec["clusterIPs"])
    if _needs_node_port(old_spec) and _needs_node_port(spec):
        _carry_node_ports(spec.get("ports") or [], old_spec.get("ports") or [])
    if needs_health_check(old) and needs_health_check(obj) and not spec.get("healthCheckNodePort"):
        if old_spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = old_spec["healthCheckNodePort"]


def _carry_node_ports(ports: list[Obj], old_ports: list[Obj]) -> None:
    used = {p.get("nodePort") for p in ports} & {p.get("nodePort") for p in old_ports}
    by_name = {p.get("name") or "": p.get("nodePort") for p in old_ports}
    for port in ports:
        before = by_name.get(port.get("name") or "")
        if not port.get("nodePort") and before and before not in used:
            port["nodePort"] = before


def _normalize_cluster_ips(spec: Obj, old_spec: Obj) -> None:
    """clusterIP and clusterIPs[0] are one value; clients that know only one change that."""
    ip, old_ip = spec.get("clusterIP") or "", old_spec.get("clusterIP") or ""
    ips, old_ips = spec.get("clusterIPs") or [], old_spec.get("clusterIPs") or []
    if old_ips and not ips and ip == old_ip:
        spec["clusterIPs"] = list(old_ips)
    if ip == old_ip or ips != old_ips:
        return
    if old_ip and not ip:
        spec.pop("clusterIPs", None)
    else:
        spec["clusterIPs"] = [ip]


def _drop_by_type(obj: Obj, spec: Obj, old: Obj, old_spec: Obj) -> None:
    """dropTypeDependentFields: values that the new type has no use for go, if unchanged."""
    if _needs_cluster_ip(old_spec) and not _needs_cluster_ip(spec):
        _drop_if_same(spec, old_spec, "clusterIPs", "clusterIP")
        for field in ("ipFamilies", "ipFamilyPolicy"):
            _drop_if_same(spec, old_spec, field)
    exposed = ("NodePort", "LoadBalancer")
    if old_spec.get("type") in exposed and spec.get("type") not in exposed:
        before = {p.get("nodePort") for p in old_spec.get("ports") or ()}
        ports = [p for p in spec.get("ports") or () if p.get("nodePort")]
        if all(p["nodePort"] in before for p in ports):
            for port in ports:
                del port["nodePort"]
    if needs_health_check(old) and not needs_health_check(obj):
        _drop_if_same(spec, old_spec, "healthCheckNodePort")
    if spec.get("type") != "LoadBalancer" and old_spec.get("type") == "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            _drop_if_same(spec, old_spec, field)
    if externally_accessible(old) and not externally_accessible(obj):
        _drop_if_same(spec, old_spec, "externalTrafficPolicy")
    if spec.get("type") != "LoadBalancer" and obj.get("status"):
        obj["status"] = {**obj["status"], "loadBalancer": {}}


def _drop_if_same(spec: Obj, old_spec: Obj, field: str, *more: str) -> None:
    fields: tuple[str, ...] = (field, *more)
    same: Any = all(spec.get(f) == old_spec.get(f) for f in fields)
    if same:
        for f in fields:
            spec.pop(f, None)


STRATEGY = ServiceStrategy()
