"""Services as the proxy sees them: one :class:`ServicePort` per Service and port (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pilothouse.apimachinery.object import Obj

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
"""Whatever its value, another proxy routes the Service."""


class ServicePortName(NamedTuple):
    """``namespace/name:port`` (``namespace/name`` for an unnamed port)."""

    namespace: str
    name: str
    port: str
    protocol: str

    def __str__(self) -> str:
        suffix = f":{self.port}" if self.port else ""
        return f"{self.namespace}/{self.name}{suffix}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: ServicePortName
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    affinity_seconds: int = 0
    """ClientIP session affinity for this long; 0: none."""
    external_local: bool = False
    internal_local: bool = False
    health_check_node_port: int = 0
    traffic_distribution: str = ""

    @property
    def protocol(self) -> str:
        return self.name.protocol.lower()

    @property
    def externally_accessible(self) -> bool:
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        return not self.internal_local or (self.externally_accessible)

    @property
    def uses_local_endpoints(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)


def service_ports(service: Obj) -> list[ServicePort]:
    """What is to be routed for a Service: nothing for headless and ExternalName ones."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    cluster_ip = spec.get("clusterIP") or ""
    labels = metadata.get("labels") or {}
    if not cluster_ip or cluster_ip == "None" or spec.get("type") == "ExternalName":
        return []
    if PROXY_NAME_LABEL in labels:
        return []
    external = spec.get("type") in ("NodePort", "LoadBalancer")
    result = []
    for port in spec.get("ports") or ():
        name = ServicePortName(
            metadata.get("namespace") or "",
            metadata["name"],
            port.get("name") or "",
            port.get("protocol") or "TCP",
        )
        result.append(
            ServicePort(
                name,
                cluster_ip,
                port["port"],
                node_port=port.get("nodePort") or 0 if external else 0,
                external_ips=_ipv4(spec.get("externalIPs") or ()),
                load_balancer_ips=_load_balancer_ips(service),
                source_ranges=_ipv4(r.strip() for r in spec.get("loadBalancerSourceRanges") or ()),
                affinity_seconds=_affinity(spec),
                external_local=spec.get("externalTrafficPolicy") == "Local",
                internal_local=spec.get("internalTrafficPolicy") == "Local",
                health_check_node_port=spec.get("healthCheckNodePort") or 0,
                traffic_distribution=spec.get("trafficDistribution") or "",
            )
        )
    return result


def _affinity(spec: Obj) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(config.get("timeoutSeconds") or 10800)


def _load_balancer_ips(service: Obj) -> tuple[str, ...]:
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _ipv4(i["ip"] for i in ingress if i.get("ip") and i.get("ipMode", "VIP") == "VIP")


def _ipv4(addresses: object) -> tuple[str, ...]:
    return tuple(a for a in addresses if ":" not in a)  # type: ignore[attr-defined]
