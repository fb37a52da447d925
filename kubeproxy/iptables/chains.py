"""Names of chains, as kube-proxy gives them, and the jumps that lead to them.

    nat PREROUTING, OUTPUT -> KUBE-SERVICES -> KUBE-SVC-… (any endpoint) -> KUBE-SEP-… (DNAT)
                              KUBE-SERVICES -> KUBE-EXT-… (from outside) -> KUBE-SVC-… or KUBE-SVL-…
                              KUBE-SERVICES -> KUBE-NODEPORTS -> KUBE-EXT-…
    nat POSTROUTING        -> KUBE-POSTROUTING (masquerades what KUBE-MARK-MASQ has marked)
    filter INPUT, FORWARD, OUTPUT -> KUBE-SERVICES, KUBE-EXTERNAL-SERVICES (rejects), KUBE-FORWARD …

The hash in a name depends on the Service port (and endpoint) only, so names are stable.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
FIREWALL = "KUBE-FIREWALL"
CANARY = "KUBE-PROXY-CANARY"
"""Nothing leads there: when it is gone, somebody has flushed the tables."""
SERVICE_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-")


class Jump(NamedTuple):
    """A rule of a built-in chain that leads to one of ours."""

    table: str
    chain: str
    to: str
    comment: str = ""
    match: tuple[str, ...] = ()

    @property
    def rule(self) -> tuple[str, ...]:
        comment = ("-m", "comment", "--comment", self.comment) if self.comment else ()
        return (*self.match, *comment, "-j", self.to)


_NEW = ("-m", "conntrack", "--ctstate", "NEW")
_PORTALS = "kubernetes service portals"
_EXTERNAL = "kubernetes externally-visible service portals"
_LOAD_BALANCER = "kubernetes load balancer firewall"
JUMPS = (
    Jump("filter", "INPUT", EXTERNAL_SERVICES, _EXTERNAL, _NEW),
    Jump("filter", "FORWARD", EXTERNAL_SERVICES, _EXTERNAL, _NEW),
    Jump("filter", "INPUT", NODE_PORTS, "kubernetes health check service ports"),
    Jump("filter", "FORWARD", SERVICES, _PORTALS, _NEW),
    Jump("filter", "OUTPUT", SERVICES, _PORTALS, _NEW),
    Jump("filter", "FORWARD", FORWARD, "kubernetes forwarding rules"),
    Jump("filter", "INPUT", PROXY_FIREWALL, _LOAD_BALANCER, _NEW),
    Jump("filter", "OUTPUT", PROXY_FIREWALL, _LOAD_BALANCER, _NEW),
    Jump("filter", "FORWARD", PROXY_FIREWALL, _LOAD_BALANCER, _NEW),
    Jump("filter", "INPUT", FIREWALL),
    Jump("filter", "OUTPUT", FIREWALL),
    Jump("nat", "OUTPUT", SERVICES, _PORTALS),
    Jump("nat", "PREROUTING", SERVICES, _PORTALS),
    Jump("nat", "POSTROUTING", POSTROUTING, "kubernetes postrouting rules"),
)
FILTER_CHAINS = (SERVICES, EXTERNAL_SERVICES, FORWARD, NODE_PORTS, PROXY_FIREWALL, FIREWALL)
NAT_CHAINS = (SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQ)


def service_chain(name: str, protocol: str) -> str:
    return f"KUBE-SVC-{_hash(name + protocol)}"


def local_chain(name: str, protocol: str) -> str:
    return f"KUBE-SVL-{_hash(name + protocol)}"


def external_chain(name: str, protocol: str) -> str:
    return f"KUBE-EXT-{_hash(name + protocol)}"


def firewall_chain(name: str, protocol: str) -> str:
    return f"KUBE-FW-{_hash(name + protocol)}"


def endpoint_chain(name: str, protocol: str, endpoint: str) -> str:
    return f"KUBE-SEP-{_hash(name + protocol + endpoint)}"


def is_service_chain(chain: str) -> bool:
    return chain.startswith(SERVICE_PREFIXES)


def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()
