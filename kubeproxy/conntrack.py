"""Flows that must be forgotten when a UDP endpoint goes: the kernel would keep sending there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilothouse.kubeproxy.endpoints import Endpoint
from pilothouse.kubeproxy.services import ServicePort, ServicePortName


def stale_flows(
    services: Mapping[ServicePortName, ServicePort],
    before: Mapping[ServicePortName, Iterable[Endpoint]],
    after: Mapping[ServicePortName, Iterable[Endpoint]],
) -> list[list[str]]:
    """``conntrack`` argument lists (pure): flows to endpoints that are gone, and all flows to a
    Service that has its first endpoint now (they were black-holed so far)."""
    commands = []
    for name in {**before, **after}:
        service = services.get(name)
        if service is None or name.protocol != "UDP":
            continue
        old = {e.ip for e in before.get(name, ()) if e.ready or e.serving}
        new = {e.ip for e in after.get(name, ()) if e.ready or e.serving}
        for destination in _destinations(service):
            if not old and new:
                commands.append(["-D", *destination, "-p", "udp"])
            else:
                commands.extend(
                    ["-D", *destination, "-p", "udp", "--dst-nat", ip] for ip in sorted(old - new)
                )
    return commands


def _destinations(service: ServicePort) -> list[list[str]]:
    addresses = [service.cluster_ip, *service.external_ips, *service.load_balancer_ips]
    result = [["--orig-dst", ip] for ip in addresses]
    if service.node_port:
        result.append(["--orig-port-dst", str(service.node_port)])
    return result
