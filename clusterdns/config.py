"""Settings of the DNS server of a cluster."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

PORT = 53


@dataclass(frozen=True, slots=True)
class DNSConfig:
    address: str = "127.0.0.1"
    port: int = PORT
    any_port: bool = False
    """Take another port when ``port`` is in use: clients come through the Service, which knows."""
    cluster_domain: str = "cluster.local"
    service_ip: str = ""
    """Make the Service kube-dns with this ClusterIP, leading here; empty: somebody else does."""
    resolv_conf: str = "/etc/resolv.conf"
    """Names the servers that other names are asked of."""
    ttl: int = 30


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--listen",
        default="127.0.0.1:53",
        metavar="ADDR:PORT",
        help="UDP and TCP; port 0 picks a free one (127.0.0.1:53)",
    )
    add("--cluster-domain", default="cluster.local", help="domain of the cluster (cluster.local)")
    add(
        "--service-ip",
        default="",
        metavar="IP",
        help="make the Service kube-system/kube-dns with this ClusterIP, leading here",
    )
    add(
        "--resolv-conf",
        default="/etc/resolv.conf",
        metavar="FILE",
        help="names the servers for all other names (/etc/resolv.conf)",
    )


def from_args(args: argparse.Namespace) -> DNSConfig:
    """:raises ValueError: --listen cannot be understood."""
    import ipaddress

    address, _, port = args.listen.rpartition(":")
    address = address.strip("[]") or "127.0.0.1"
    try:
        ip = ipaddress.ip_address(address)
        number = int(port)
        if not 0 <= number <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError(f"--listen {args.listen!r}: use ADDRESS:PORT") from None
    if args.service_ip and (ip.is_loopback or ip.is_unspecified):
        raise ValueError(f"--service-ip needs a --listen address that pods reach, not {ip}")
    return DNSConfig(
        address=address,
        port=number,
        cluster_domain=args.cluster_domain.strip("."),
        service_ip=args.service_ip,
        resolv_conf=args.resolv_conf,
    )
