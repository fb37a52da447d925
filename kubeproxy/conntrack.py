"""Flows that must be forgotten when a UDP endpoint goes: the kernel would keep sending there.

The proxier lists the kernel's flows after it has written rules, asks here which of them lead to
no serving endpoint, and has those deleted. Looking at the flows rather than at what changed means
that a missed turn (a failed restore, a restart) is made good by the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pilothouse.kubeproxy.endpoints import Endpoint
from pilothouse.kubeproxy.services import ServicePort, ServicePortName

_TUPLE = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


class Flow(NamedTuple):
    """One UDP entry of the kernel: what the client sent, and who answers."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    reply_source: str
    reply_port: int

    @property
    def backend(self) -> tuple[str, int]:
        return self.reply_source, self.reply_port

    @property
    def deletion(self) -> list[str]:
        """Arguments of ``conntrack`` that delete just this one."""
        return [
            "-D", "-p", "udp", "--orig-src", self.source, "--orig-dst", self.destination,
            "--sport", str(self.source_port), "--dport", str(self.destination_port),
        ]  # fmt: skip


def parse_flows(listing: str) -> list[Flow]:
    """The entries of ``conntrack -L -p udp``; lines of another shape are passed over."""
    flows = []
    for line in listing.splitlines():
        found = _TUPLE.findall(line)
        if [key for key, _ in found] != ["src", "dst", "sport", "dport"] * 2:
            continue
        src, dst, sport, dport, back, _, back_port, _ = (value for _, value in found)
        flows.append(Flow(src, dst, int(sport), int(dport), back, int(back_port)))
    return flows


def stale_flows(
    services: Mapping[ServicePortName, ServicePort],
    endpoints: Mapping[ServicePortName, Iterable[Endpoint]],
    flows: Iterable[Flow],
) -> list[Flow]:
    """Those that are directed to a UDP Service but answered by none of its serving endpoints.

    NodePorts are matched by port alone, so those of a Service without endpoints are left alone:
    such a flow may be somebody else's.
    """
    by_address: dict[tuple[str, int], set[tuple[str, int]]] = {}
    by_node_port: dict[int, set[tuple[str, int]]] = {}
    for name, service in services.items():
        if name.protocol != "UDP":
            continue
        serving = {(e.ip, e.port) for e in endpoints.get(name, ()) if e.ready or e.serving}
        for ip in (service.cluster_ip, *service.external_ips, *service.load_balancer_ips):
            by_address[ip, service.port] = serving
        if service.node_port and serving:
            by_node_port[service.node_port] = serving
    stale = []
    for flow in flows:
        wanted = by_address.get((flow.destination, flow.destination_port))
        if wanted is None:
            wanted = by_node_port.get(flow.destination_port)
        if wanted is not None and flow.backend not in wanted:
            stale.append(flow)
    return stale
