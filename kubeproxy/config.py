"""Settings of the service proxy, with kube-proxy's flag names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    node_name: str
    cluster_cidr: str = ""
    """Addresses of pods; others that use a ClusterIP are masqueraded."""
    netns: str | None = None
    """Network namespace to write rules in (a path); None: our own."""
    min_sync_period: float = 0.0
    """Seconds between two writes of rules; changes in between are written together."""
    full_sync_period: float = 3600.0
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    node_port_addresses: tuple[str, ...] = ()
    """CIDRs of the node's addresses that NodePorts answer on, or ``primary``; empty: all."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--hostname-override", default="", metavar="NAME", help="name of this node")
    add("--cluster-cidr", default="", metavar="CIDR", help="addresses of the pods in the cluster")
    add("--proxy-mode", choices=("iptables",), default="iptables", help="iptables")
    add("--iptables-min-sync-period", type=float, default=0.0, metavar="S", help="seconds")
    add("--iptables-sync-period", type=float, default=3600.0, metavar="S", help="seconds")
    add("--masquerade-all", action="store_true", help="masquerade all traffic to Services")
    add(
        "--iptables-localhost-nodeports",
        type=lambda text: text.lower() in ("true", "1"),
        default=True,
        help="NodePorts answer on 127.0.0.1 too (true)",
    )
    add(
        "--nodeport-addresses",
        type=_node_port_addresses,
        default=(),
        metavar="CIDRS",
        help="comma-separated: addresses that NodePorts answer on, or 'primary' (all)",
    )


def _node_port_addresses(text: str) -> tuple[str, ...]:
    import ipaddress

    wanted = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in wanted:
        if word != "primary":
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError as error:
                raise argparse.ArgumentTypeError(f"must be a valid CIDR: {error}") from error
    if "primary" in wanted and len(wanted) > 1:
        raise argparse.ArgumentTypeError("can't set both 'primary' and other values")
    return wanted


def from_args(args: argparse.Namespace) -> ProxyConfig:
    import socket

    return ProxyConfig(
        node_name=args.hostname_override or socket.gethostname().lower(),
        cluster_cidr=args.cluster_cidr,
        min_sync_period=args.iptables_min_sync_period,
        full_sync_period=args.iptables_sync_period,
        masquerade_all=args.masquerade_all,
        localhost_node_ports=args.iptables_localhost_nodeports,
        node_port_addresses=args.nodeport_addresses,
    )
