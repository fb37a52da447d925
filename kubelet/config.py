"""Settings of a kubelet, with upstream's flag names."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.timefmt import parse_duration
from pilothouse.kubelet.config_file import ConfigAction


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    node_name: str
    root_dir: str
    """Holds pods' volumes, logs and checkpoints; mode 0700."""
    cluster_name: str = "pilothouse"
    node_ip: str = "127.0.0.1"
    host_gateway_ip: str = ""
    """The machine's own address as seen from pods; for status.hostIP the node's is used."""
    pod_cidr: str = ""
    netns: str | None = None
    """Network namespace of the node (a path) when it has one of its own."""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    max_pods: int = 110
    cpu_capacity: str = ""
    """Capacity to report; empty: the machine's."""
    memory_capacity: str = ""
    node_labels: dict[str, str] = field(default_factory=dict)
    register_node: bool = True
    register_with_taints: tuple[dict[str, str], ...] = ()
    port: int = 10250
    serve: bool = True
    """Serve HTTPS; in one process with the API server it calls the kubelet directly."""
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    node_status_report_seconds: float = 300.0
    """An unchanged status is reported this often; a changed one at once."""
    lease_seconds: int = 40
    lease_renew_seconds: float = 10.0
    resync_seconds: float = 60.0
    """Each pod is looked at this often even when nothing happened (safety net; also picks up
    changed ConfigMaps and Secrets for their volumes)."""
    cgroup_root: str = ""
    enable_service_links: bool = True
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Names, or prefixes that end with ``*``."""
    user_namespace_first: int = 65536
    """The ids of pods with users of their own begin here; 65536 for each of ``max_pods``."""
    event_qps: float = 50
    event_burst: int = 100
    """So many events a second are written in the long run, and at once; the others wait."""
    pod_pids_limit: int = 0
    """Processes that a pod may have; 0: as many as the node."""
    static_pod_path: str = ""
    """Folder with manifests of pods that this node runs by itself; empty: none."""
    eviction_hard: str = ""
    """``signal<amount,…``; empty: no pod goes because the machine runs short. ``pilothouse
    kubelet`` has upstream's default, in a cluster of one process the machine isn't ours."""
    eviction_soft: str = ""
    eviction_soft_grace_period: str = ""
    eviction_transition_seconds: float = 300.0
    image_gc_high_percent: int = 100
    """Unused images go when this much of the disk is in use; 100: never."""
    image_gc_low_percent: int = 80
    container_log_max_size: int = 10 << 20
    container_log_max_files: int = 5
    shutdown_periods: tuple[tuple[int, int], ...] = ()
    """(priority, seconds): how long pods from this priority on have when the node shuts down."""

    @property
    def node_reference(self) -> dict[str, str]:
        """What events of the node are about."""
        return {"kind": "Node", "name": self.node_name, "uid": self.node_name}


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", default="", metavar="FILE", action=ConfigAction,
        help="a KubeletConfiguration; flags count more")  # fmt: skip
    parser.set_defaults(register_node=True, register_with_taints=(), shutdown_periods=())
    add("--hostname-override", default="", metavar="NAME", help="name of this node")
    add("--root-dir", default="/var/lib/pilothouse-kubelet", metavar="DIR", help="pods' files")
    add("--node-ip", default="127.0.0.1", metavar="IP", help="address of the node")
    add("--pod-cidr", default="", metavar="CIDR", help="addresses of this node's pods")
    add("--cluster-dns", default="", metavar="IPS", help="comma-separated")
    add("--cluster-domain", default="cluster.local", help="domain of the cluster")
    add("--max-pods", type=int, default=110, help="pods that may run here (110)")
    add("--node-labels", default="", metavar="K=V,…", help="labels of the node")
    add("--port", type=int, default=10250, help="port of the kubelet's API (10250)")
    add("--tls-cert-file", default="", metavar="FILE", help="serving certificate")
    add("--tls-private-key-file", default="", metavar="FILE", help="its key")
    add("--client-ca-file", default="", metavar="FILE", help="CA of clients (the API server)")
    add("--netns", default="", metavar="PATH", help="network namespace of the node")
    add(
        "--allowed-unsafe-sysctls", default="", metavar="NAMES", type=_sysctl_patterns,
        help="comma-separated sysctls, or patterns that end with *, that pods may set",
    )  # fmt: skip
    add("--pod-max-pids", type=int, default=-1, help="processes of a pod (-1: no limit)")
    add("--event-qps", type=_not_negative, default=50, metavar="N", help="events a second (50)")
    add("--event-burst", type=_not_negative, default=100, metavar="N", help="at once (100)")
    _add_care_flags(add)
    add("--runtime", choices=("auto", "oci", "process", "fake"), default="auto", help="runtime")


def from_args(args: argparse.Namespace) -> KubeletConfig:
    import socket

    labels = dict(p.split("=", 1) for p in args.node_labels.split(",") if "=" in p)
    return KubeletConfig(
        node_name=args.hostname_override or socket.gethostname().lower(),
        root_dir=args.root_dir,
        node_ip=args.node_ip,
        pod_cidr=args.pod_cidr,
        netns=args.netns or None,
        cluster_dns=tuple(s for s in args.cluster_dns.split(",") if s),
        cluster_domain=args.cluster_domain,
        max_pods=args.max_pods,
        node_labels=labels,
        port=args.port,
        tls_cert_file=args.tls_cert_file,
        tls_private_key_file=args.tls_private_key_file,
        client_ca_file=args.client_ca_file,
        allowed_unsafe_sysctls=tuple(s for s in args.allowed_unsafe_sysctls.split(",") if s),
        event_qps=args.event_qps or 50,
        event_burst=args.event_burst or 100,
        pod_pids_limit=max(args.pod_max_pids, 0),
        static_pod_path=args.pod_manifest_path,
        eviction_hard=args.eviction_hard,
        eviction_soft=args.eviction_soft,
        eviction_soft_grace_period=args.eviction_soft_grace_period,
        eviction_transition_seconds=parse_duration(args.eviction_pressure_transition_period),
        image_gc_high_percent=args.image_gc_high_threshold,
        image_gc_low_percent=args.image_gc_low_threshold,
        container_log_max_size=Quantity.parse(args.container_log_max_size).value(),
        container_log_max_files=args.container_log_max_files,
        register_node=args.register_node,
        register_with_taints=args.register_with_taints,
        shutdown_periods=args.shutdown_periods,
    )


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def _add_care_flags(add: Callable[..., object]) -> None:
    from pilothouse.kubelet.eviction.thresholds import DEFAULT_HARD, parse

    def thresholds(text: str) -> str:
        parse(text)
        return text

    add("--pod-manifest-path", default="", metavar="DIR", help="manifests of static pods")
    add(
        "--eviction-hard",
        default=DEFAULT_HARD,
        type=thresholds,
        metavar="LIST",
        help="thresholds of what must be left of memory and disk (upstream's defaults)",
    )
    add("--eviction-soft", default="", type=thresholds, metavar="LIST", help="with grace periods")
    add("--eviction-soft-grace-period", default="", metavar="LIST", help="signal=duration,…")
    add(
        "--eviction-pressure-transition-period",
        default="5m0s",
        metavar="D",
        help="how long a condition of pressure stays after it was met (5m0s)",
    )
    add(
        "--image-gc-high-threshold",
        type=int,
        default=85,
        metavar="PERCENT",
        help="disk usage above which unused images go (85)",
    )
    add(
        "--image-gc-low-threshold",
        type=int,
        default=80,
        metavar="PERCENT",
        help="disk usage down to which they go (80)",
    )
    add("--container-log-max-size", default="10Mi", metavar="SIZE", help="of one log file (10Mi)")
    add("--container-log-max-files", type=int, default=5, metavar="N", help="of a container (5)")


def _sysctl_patterns(text: str) -> str:
    """Only what the kernel keeps apart for each pod."""
    from pilothouse.kubelet.admission_rules import namespace_of, normalized

    for pattern in filter(None, text.split(",")):
        if not namespace_of(normalized(pattern)):
            raise argparse.ArgumentTypeError(
                f'the sysctls "{pattern}" are not known to be namespaced'
            )
    return text
