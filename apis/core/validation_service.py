"""Services: ports, addresses, families, traffic policies and what may not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.core.defaults_service import externally_accessible, needs_health_check
from pilothouse.apis.core.validation_endpoints import endpoint_ip
from pilothouse.apis.core.validation_service_ips import (
    is_headless,
    validate_cluster_ips,
    validate_ip_changes,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("SCTP", "TCP", "UDP")
_MAX_AFFINITY_SECONDS = 86400
_TRAFFIC_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_OLD_HINTS = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"


def validate_service(service: Obj, old: Obj | None = None) -> ErrorList:
    """All rules of one Service. The ClusterIP, node ports and health-check port may still be
    empty: they are allocated after validation (``registry/core/service_allocators.py``)."""
    errors: ErrorList = []
    spec = service.get("spec") or {}
    annotations = (service.get("metadata") or {}).get("annotations") or {}
    _topology_annotations(errors, annotations)
    ports = spec.get("ports") or ()
    headless = is_headless(spec)
    if not ports and not headless and spec.get("type") != "ExternalName":
        errors.append(required("spec.ports"))
    _by_type(errors, spec, headless)
    _ports(errors, ports)
    if spec.get("selector"):
        check.labels(errors, spec["selector"], "spec.selector")
    _session_affinity(errors, spec)
    validate_cluster_ips(errors, spec, (old or {}).get("spec"))
    _external_ips(errors, spec, old)
    kind = spec.get("type")
    if kind not in SERVICE_TYPES:
        check.one_of(errors, kind, SERVICE_TYPES, "spec.type")
    _port_numbers(errors, spec, ports)
    _source_ranges(errors, spec, annotations, old)
    _load_balancer_fields(errors, spec)
    _external_traffic(errors, service, spec)
    _internal_traffic(errors, spec)
    return errors


def validate_service_update(service: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    spec, old_spec = service.get("spec") or {}, old.get("spec") or {}
    validate_ip_changes(errors, spec, old_spec)
    both_balancers = spec.get("type") == old_spec.get("type") == "LoadBalancer"
    new_class = spec.get("loadBalancerClass")
    if both_balancers and new_class != old_spec.get("loadBalancerClass"):
        errors.append(invalid("spec.loadBalancerClass", new_class, "may not change once set"))
    if needs_health_check(old) and needs_health_check(service):
        port = spec.get("healthCheckNodePort") or 0
        if port != (old_spec.get("healthCheckNodePort") or 0):
            errors.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    errors.extend(validate_service(service, old))
    return errors


def _topology_annotations(errors: ErrorList, annotations: Obj) -> None:
    mode, hints = annotations.get(_TOPOLOGY_MODE), annotations.get(_OLD_HINTS)
    if mode is not None and hints is not None and mode != hints:
        message = f"must match annotations[{_OLD_HINTS}] when both are specified"
        errors.append(invalid(f"metadata.annotations[{_TOPOLOGY_MODE}]", mode, message))


def _by_type(errors: ErrorList, spec: Obj, headless: bool) -> None:
    kind = spec.get("type")
    if kind in ("LoadBalancer", "NodePort"):
        if headless:
            message = f"may not be set to 'None' for {kind} services"
            errors.append(invalid("spec.clusterIPs[0]", "None", message))
    elif kind == "ExternalName":
        message = "may not be set for ExternalName services"
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                errors.append(forbidden(f"spec.{field}", message))
        name = (spec.get("externalName") or "").removesuffix(".")
        if name:
            check.dns_subdomain(errors, name, "spec.externalName")
        else:
            errors.append(required("spec.externalName"))


def _ports(errors: ErrorList, ports: Sequence[Obj]) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at, name = f"spec.ports[{i}]", port.get("name")
        if name:
            check.dns_label(errors, name, f"{at}.name")
            if name in seen:
                errors.append(duplicate(f"{at}.name", name))
            seen.add(name)
        elif len(ports) > 1:
            errors.append(required(f"{at}.name"))
        check.port_number(errors, port.get("port") or 0, f"{at}.port")
        protocol = port.get("protocol")
        if protocol not in PROTOCOLS:
            check.one_of(errors, protocol, PROTOCOLS, f"{at}.protocol")
        check.port_number_or_name(errors, port.get("targetPort"), f"{at}.targetPort")
        if port.get("appProtocol") is not None:
            check.qualified_name(errors, port["appProtocol"], f"{at}.appProtocol")


def _port_numbers(errors: ErrorList, spec: Obj, ports: Sequence[Obj]) -> None:
    if spec.get("type") == "ClusterIP":
        message = "may not be used when `type` is 'ClusterIP'"
        errors.extend(
            forbidden(f"spec.ports[{i}].nodePort", message)
            for i, port in enumerate(ports)
            if port.get("nodePort")
        )
    node_ports: set[tuple[str | None, int]] = set()
    numbers: set[tuple[str | None, int | None]] = set()
    for i, port in enumerate(ports):
        if port.get("nodePort"):
            key = (port.get("protocol"), port["nodePort"])
            if key in node_ports:
                errors.append(duplicate(f"spec.ports[{i}].nodePort", port["nodePort"]))
            node_ports.add(key)
    for i, port in enumerate(ports):
        number = (port.get("protocol"), port.get("port"))
        if number in numbers:
            shown = {
                "Name": "",
                "Protocol": number[0],
                "AppProtocol": None,
                "Port": number[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errors.append(duplicate(f"spec.ports[{i}]", shown))
        numbers.add(number)


def _session_affinity(errors: ErrorList, spec: Obj) -> None:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    if affinity not in ("ClientIP", "None"):
        check.one_of(errors, affinity, ("ClientIP", "None"), "spec.sessionAffinity")
    elif affinity == "None":
        if config is not None:
            message = "must not be set when session affinity is None"
            errors.append(forbidden("spec.sessionAffinityConfig", message))
    else:
        _client_ip_config(errors, config)


def _client_ip_config(errors: ErrorList, config: Obj | None) -> None:
    path, message = "spec.sessionAffinityConfig", "when session affinity type is ClientIP"
    client_ip = (config or {}).get("clientIP")
    if config is None:
        errors.append(required(path, message))
    elif client_ip is None:
        errors.append(required(f"{path}.clientIP", message))
    elif client_ip.get("timeoutSeconds") is None:
        errors.append(required(f"{path}.clientIP.timeoutSeconds", message))
    elif not 0 < client_ip["timeoutSeconds"] <= _MAX_AFFINITY_SECONDS:
        detail = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
        at = f"{path}.clientIP.timeoutSeconds"
        errors.append(invalid(at, client_ip["timeoutSeconds"], detail))


def _external_ips(errors: ErrorList, spec: Obj, old: Obj | None) -> None:
    existing = ((old or {}).get("spec") or {}).get("externalIPs") or ()
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        at = f"spec.externalIPs[{i}]"
        if check.ip_for_legacy_field(errors, ip, at, existing):
            endpoint_ip(errors, ip, at)


def _source_ranges(errors: ErrorList, spec: Obj, annotations: Obj, old: Obj | None) -> None:
    only_balancer = "may only be used when `type` is 'LoadBalancer'"
    ranges = spec.get("loadBalancerSourceRanges") or ()
    is_balancer = spec.get("type") == "LoadBalancer"
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        if not is_balancer:
            errors.append(forbidden(path, only_balancer))
        before = ((old or {}).get("spec") or {}).get("loadBalancerSourceRanges") or ()
        existing = [r.strip() for r in before]
        for i, cidr in enumerate(ranges):
            check.cidr_for_legacy_field(errors, cidr.strip(), f"{path}[{i}]", existing)
    elif _SOURCE_RANGES in annotations:
        path, text = f"metadata.annotations[{_SOURCE_RANGES}]", annotations[_SOURCE_RANGES]
        if not is_balancer:
            errors.append(forbidden(path, only_balancer))
        old_annotations = ((old or {}).get("metadata") or {}).get("annotations") or {}
        if text.strip() and old_annotations.get(_SOURCE_RANGES) != text:
            for cidr in text.strip().split(","):
                check.cidr_for_legacy_field(errors, cidr.strip(), path)


def _load_balancer_fields(errors: ErrorList, spec: Obj) -> None:
    message = "may only be used when `type` is 'LoadBalancer'"
    is_balancer = spec.get("type") == "LoadBalancer"
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if allocate is not None and not is_balancer:
        errors.append(forbidden("spec.allocateLoadBalancerNodePorts", message))
    if is_balancer and allocate is None:
        errors.append(required("allocateLoadBalancerNodePorts"))
    balancer_class = spec.get("loadBalancerClass")
    if balancer_class is not None:
        if is_balancer:
            check.qualified_name(errors, balancer_class, "spec.loadBalancerClass")
        else:
            errors.append(forbidden("spec.loadBalancerClass", message))


def _external_traffic(errors: ErrorList, service: Obj, spec: Obj) -> None:
    policy = spec.get("externalTrafficPolicy") or ""
    if not externally_accessible(service):
        if policy:
            message = "may only be set for externally-accessible services"
            errors.append(invalid("spec.externalTrafficPolicy", policy, message))
    elif policy not in ("Cluster", "Local"):
        check.one_of(errors, policy, ("Cluster", "Local"), "spec.externalTrafficPolicy")
    port = spec.get("healthCheckNodePort") or 0
    if not port:
        return
    if needs_health_check(service):
        check.port_number(errors, port, "spec.healthCheckNodePort")
    else:
        message = (
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        )
        errors.append(invalid("spec.healthCheckNodePort", port, message))


def _internal_traffic(errors: ErrorList, spec: Obj) -> None:
    policy = spec.get("internalTrafficPolicy")
    if policy is None:
        if spec.get("type") in ("NodePort", "LoadBalancer", "ClusterIP"):
            errors.append(required("spec.internalTrafficPolicy"))
    elif policy not in ("Cluster", "Local"):
        errors.append(not_supported("spec.internalTrafficPolicy", policy, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _TRAFFIC_DISTRIBUTIONS:
        path = "spec.trafficDistribution"
        errors.append(not_supported(path, distribution, _TRAFFIC_DISTRIBUTIONS))


def validate_service_status_update(service: Obj, old: Obj) -> ErrorList:
    """ValidateLoadBalancerStatus."""
    errors: ErrorList = []
    kind = (service.get("spec") or {}).get("type")
    ingresses = _ingresses(service)
    if kind != "LoadBalancer" and ingresses:
        message = "may only be used when `spec.type` is 'LoadBalancer'"
        errors.append(forbidden("status.loadBalancer.ingress", message))
        return errors
    existing = [i["ip"] for i in _ingresses(old) if i.get("ip")]
    for i, ingress in enumerate(ingresses):
        _ingress(errors, ingress, existing, f"status.loadBalancer.ingress[{i}]")
    return errors


def _ingresses(service: Obj) -> list[Obj]:
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return balancer.get("ingress") or []


def _ingress(errors: ErrorList, ingress: Obj, existing: list[str], path: str) -> None:
    ip, mode, hostname = ingress.get("ip"), ingress.get("ipMode"), ingress.get("hostname")
    if ip:
        check.ip_for_legacy_field(errors, ip, f"{path}.ip", existing)
    if mode is None:
        if ip:
            errors.append(required(f"{path}.ipMode", "must be specified when `ip` is set"))
    elif not ip:
        errors.append(forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
    elif mode not in ("Proxy", "VIP"):
        errors.append(not_supported(f"{path}.ipMode", mode, ("Proxy", "VIP")))
    if hostname:
        messages = names.is_dns1123_subdomain(hostname)
        if messages:
            add_all(errors, f"{path}.hostname", hostname, messages)
        if check.parse_ip_sloppy(hostname) is not None:
            message = "must be a DNS name, not an IP address"
            errors.append(invalid(f"{path}.hostname", hostname, message))


def service_warnings(service: Obj) -> list[str]:
    """GetWarningsForService."""
    spec = service.get("spec") or {}
    annotations = (service.get("metadata") or {}).get("annotations") or {}
    warnings = []
    if _OLD_HINTS in annotations:
        warnings.append(
            f"annotation {_OLD_HINTS} is deprecated, please use {_TOPOLOGY_MODE} instead"
        )
    cluster_ip = spec.get("clusterIP")
    headless = spec.get("type") == "ClusterIP" and cluster_ip == "None"
    if cluster_ip and cluster_ip != "None":
        for i, ip in enumerate(spec.get("clusterIPs") or ()):
            warnings.extend(check.ip_warnings(f"spec.clusterIPs[{i}]", ip))
    external_ips = spec.get("externalIPs") or ()
    if headless:
        if spec.get("loadBalancerIP"):
            warnings.append("spec.loadBalancerIP is ignored for headless services")
        if external_ips:
            warnings.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            warnings.append("spec.SessionAffinity is ignored for headless services")
    for i, ip in enumerate(external_ips):
        warnings.extend(check.ip_warnings(f"spec.externalIPs[{i}]", ip))
    if external_ips and not headless and spec.get("type") != "ExternalName":
        warnings.append(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
        )
    if spec.get("loadBalancerIP"):
        warnings.extend(check.ip_warnings("spec.loadBalancerIP", spec["loadBalancerIP"]))
    for i, cidr in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        warnings.extend(check.cidr_warnings(f"spec.loadBalancerSourceRanges[{i}]", cidr))
    return warnings + _ignored_fields(spec, external_ips)


def _ignored_fields(spec: Obj, external_ips: Sequence[str]) -> list[str]:
    warnings = []
    if spec.get("type") == "ExternalName" and external_ips:
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.get("type") != "ExternalName" and spec.get("externalName"):
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        warnings.append(
            'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'
        )
    return warnings
