"""hostPort: NAT rules in the node's namespace that lead a port of the node to a pod.

    PREROUTING, OUTPUT  to an address of the node  -> KUBE-HOSTPORTS
    KUBE-HOSTPORTS      protocol, port, hostIP     -> KUBE-HP-<hash>   (a chain a pod)
    KUBE-HP-<hash>      DNAT to the pod
    POSTROUTING -> KUBE-HOSTPORT-MASQ              pod to itself and 127.0.0.0/8 to pod: MASQUERADE

Pure text for ``iptables-restore --noflush``; the shim runs it. IPv4.
"""

from __future__ import annotations

import hashlib
from typing import Any

PORTS_CHAIN = "KUBE-HOSTPORTS"
MASQUERADE_CHAIN = "KUBE-HOSTPORT-MASQ"
PROTOCOLS = ("tcp", "udp", "sctp")

BASE = f"""*nat
:{PORTS_CHAIN} - [0:0]
:{MASQUERADE_CHAIN} - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j {PORTS_CHAIN}
-A OUTPUT -m addrtype --dst-type LOCAL -j {PORTS_CHAIN}
-A POSTROUTING -j {MASQUERADE_CHAIN}
COMMIT
"""
"""To be applied once a namespace: it empties the chains."""


def chain_of(sandbox_id: str) -> str:
    return "KUBE-HP-" + hashlib.sha256(sandbox_id.encode()).hexdigest()[:16].upper()


def added(sandbox_id: str, ip: str, mappings: list[dict[str, Any]]) -> str:
    """Restore text that opens the host ports of a sandbox."""
    chain = chain_of(sandbox_id)
    lines = ["*nat", f":{chain} - [0:0]"]
    lines += [f"-A {PORTS_CHAIN} {rule}" for rule in _jumps(chain, mappings)]
    lines += [f"-A {chain} {rule}" for rule in _targets(ip, mappings)]
    lines += [f"-A {MASQUERADE_CHAIN} {rule}" for rule in _masquerades(ip)]
    return "\n".join([*lines, "COMMIT", ""])


def removed(sandbox_id: str, ip: str, mappings: list[dict[str, Any]]) -> str:
    """Restore text that takes back exactly what :func:`added` did."""
    chain = chain_of(sandbox_id)
    lines = ["*nat"]
    lines += [f"-D {PORTS_CHAIN} {rule}" for rule in _jumps(chain, mappings)]
    lines += [f"-D {MASQUERADE_CHAIN} {rule}" for rule in _masquerades(ip)]
    return "\n".join([*lines, f"-F {chain}", f"-X {chain}", "COMMIT", ""])


def _jumps(chain: str, mappings: list[dict[str, Any]]) -> list[str]:
    rules = []
    for mapping in mappings:
        protocol = _protocol(mapping)
        host_ip = mapping["host_ip"]
        address = f"-d {host_ip}/32 " if host_ip not in ("", "0.0.0.0") else ""
        port = f"-p {protocol} -m {protocol} --dport {mapping['host_port']}"
        rules.append(f"{address}{port} -j {chain}")
    return rules


def _targets(ip: str, mappings: list[dict[str, Any]]) -> list[str]:
    rules = []
    for mapping in mappings:
        protocol = _protocol(mapping)
        port = f"-p {protocol} -m {protocol} --dport {mapping['host_port']}"
        rules.append(f"{port} -j DNAT --to-destination {ip}:{mapping['container_port']}")
    return rules


def _masquerades(ip: str) -> list[str]:
    sources = (f"{ip}/32", "127.0.0.0/8")
    return [f"-s {source} -d {ip}/32 -j MASQUERADE" for source in sources]


def _protocol(mapping: dict[str, Any]) -> str:
    protocol = str(mapping["protocol"] or "TCP").lower()
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol}")
    return protocol
