"""Which endpoints serve which traffic on this node (pkg/proxy/topology.go, pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.kubeproxy.endpoints import Endpoint
from pilothouse.kubeproxy.services import ServicePort


@dataclass(frozen=True, slots=True)
class Categories:
    cluster: tuple[Endpoint, ...] = ()
    """For the Cluster policies."""
    local: tuple[Endpoint, ...] = ()
    """For the Local policies: on this node."""
    reachable: tuple[Endpoint, ...] = ()
    """The union: endpoints that need a chain here."""
    has_any: bool = False
    """Whether any node has an endpoint (else traffic is rejected rather than dropped)."""


def categorize(
    endpoints: Sequence[Endpoint], service: ServicePort, *, node: str, zone: str = ""
) -> Categories:
    cluster: tuple[Endpoint, ...] = ()
    has_any = False
    if service.uses_cluster_endpoints:
        cluster = _cluster_endpoints(endpoints, node, zone)
        has_any = bool(cluster)
    if not service.uses_local_endpoints:
        return Categories(cluster, (), cluster, has_any)
    here = [e for e in endpoints if e.node == node]
    local = tuple(e for e in here if e.ready) or tuple(e for e in here if _draining(e))
    has_any = has_any or any(e.ready or _draining(e) for e in endpoints)
    if not service.uses_cluster_endpoints:
        return Categories((), local, local, has_any)
    reachable = tuple(dict.fromkeys((*cluster, *local)))
    return Categories(cluster, local, reachable, has_any)


def _cluster_endpoints(endpoints: Sequence[Endpoint], node: str, zone: str) -> tuple[Endpoint, ...]:
    """Ready ones, near ones if all say where they are meant for; else those that drain."""
    ready = [e for e in endpoints if e.ready]
    if ready and all(e.node_hints for e in ready):
        near = [e for e in ready if node in e.node_hints]
        if near:
            return tuple(near)
    if ready and zone and all(e.zone_hints for e in ready):
        near = [e for e in ready if zone in e.zone_hints]
        if near:
            return tuple(near)
    return tuple(ready) or tuple(e for e in endpoints if _draining(e))


def _draining(endpoint: Endpoint) -> bool:
    return endpoint.serving and endpoint.terminating
