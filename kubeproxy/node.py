"""What the proxy has to know of its node (pure): zone, addresses, whether it takes traffic."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pilothouse.apimachinery.object import Obj

ZONE_LABEL = "topology.kubernetes.io/zone"
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
PRIMARY = "primary"
_INET = re.compile(r"\binet (\d+(?:\.\d+){3})/")


class NodeFacts(NamedTuple):
    zone: str = ""
    ip: str = ""
    eligible: bool = True
    """Load balancers may send to it: it isn't about to go."""


def node_facts(node: Obj | None) -> NodeFacts:
    if node is None:
        return NodeFacts()
    metadata, spec = node["metadata"], node.get("spec") or {}
    leaving = any(taint.get("key") == LEAVING_TAINT for taint in spec.get("taints") or ())
    addresses = (node.get("status") or {}).get("addresses") or ()
    ips = [a["address"] for a in addresses if a["type"] == "InternalIP" and ":" not in a["address"]]
    return NodeFacts(
        (metadata.get("labels") or {}).get(ZONE_LABEL, ""),
        ips[0] if ips else "",
        not leaving and "deletionTimestamp" not in metadata,
    )


def listed_addresses(output: str) -> list[str]:
    """IPv4 addresses in the output of ``ip -o -4 addr``."""
    return _INET.findall(output)


def node_port_addresses(
    wanted: Sequence[str], node_ip: str, addresses: Iterable[str]
) -> tuple[str, ...] | None:
    """Those of the node's ``addresses`` that NodePorts answer on; None: all of them."""
    if not wanted:
        return None
    networks = [ipaddress.ip_network(w, strict=False) for w in wanted if w != PRIMARY]
    if any(network.version == 4 and network.prefixlen == 0 for network in networks):
        return None
    chosen = [node_ip] if PRIMARY in wanted and node_ip else []
    chosen += [
        text
        for text in addresses
        if any(ipaddress.ip_address(text) in network for network in networks)
    ]
    return tuple(dict.fromkeys(chosen))
