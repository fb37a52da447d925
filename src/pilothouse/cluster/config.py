"""What ``pilothouse up`` and ``Cluster(...)`` can be told, as one frozen value.

The command line, the daemon (which gets it as JSON) and the in-process cluster all use this;
``validate()`` says in one line what is wrong.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPONENTS = ("apiserver", "scheduler", "controller-manager", "kubelet", "proxy", "dns")
RUNTIMES = ("auto", "oci", "process", "fake")
STORAGES = ("sqlite", "memory", "etcd")
DEFAULT_SERVICE_CIDR = "10.96.0.0/16"
DEFAULT_POD_CIDR = "10.244.0.0/16"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


class ConfigError(ValueError):
    """A setting that cannot work; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Settings of one cluster. Paths are absolute once ``resolved``."""

    name: str = "pilothouse"
    nodes: int = 1
    runtime: str = "auto"
    storage: str = "sqlite"
    etcd_servers: tuple[str, ...] = ()
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    durability: str = "normal"
    data_dir: str = ""
    """Holds the store, certificates, logs and pods of this cluster; empty: below the home."""
    bind_address: str = "127.0.0.1"
    port: int = 6443
    """0 picks a free port."""
    kubeconfig: str = ""
    """The file that the context is merged into; empty: $KUBECONFIG or ~/.kube/config."""
    service_cidr: str = ""
    """Empty: 10.96.0.0/16, or another network when this machine uses that one already."""
    pod_cidr: str = ""
    """Empty: 10.244.0.0/16, or another one likewise."""
    node_cidr: str = ""
    """Network of the nodes on this machine; empty: one derived from the cluster's name."""
    proxy_mode: str = "iptables"
    cluster_domain: str = "cluster.local"
    scheduler_config: str = ""
    """A KubeSchedulerConfiguration file; empty: the default profile."""
    server_flags: tuple[str, ...] = ()
    """Of kube-apiserver, as text (``--audit-log-path=…``): those that ``server_flags.py`` takes."""
    manager_flags: tuple[str, ...] = ()
    """Of kube-controller-manager, likewise (``manager_flags.py``)."""
    components: tuple[str, ...] = COMPONENTS
    seed: int | None = None
    """Seed of everything random (names, ports, backoff jitter); None: from the system."""
    verbosity: int = 0
    resource_metrics: bool = True
    """Serve metrics.k8s.io (`kubectl top`, autoscaling); a bare upstream cluster has none."""
    rsa_admin_key: bool = False
    """The kubeconfig's key is RSA, which every client takes; slower to make than the default."""

    def validate(self) -> None:
        """:raises ConfigError: with one line that names the setting."""
        check_name(self.name)
        if self.nodes < 0 or self.nodes > 5000:
            raise ConfigError(f"--nodes {self.nodes}: use 0 to 5000")
        _one_of("--runtime", self.runtime, RUNTIMES)
        _one_of("--storage", self.storage, STORAGES)
        _one_of("--durability", self.durability, ("normal", "full"))
        _one_of("--proxy-mode", self.proxy_mode, ("iptables", "none"))
        for component in self.components:
            _one_of("--components", component, COMPONENTS)
        if "apiserver" not in self.components:
            raise ConfigError("--components needs apiserver: the others have nothing to talk to")
        if self.storage == "etcd" and not self.etcd_servers:
            raise ConfigError("--storage etcd needs --etcd-servers, e.g. http://127.0.0.1:2379")
        if self.storage != "etcd" and self.etcd_servers:
            raise ConfigError("--etcd-servers goes with --storage etcd")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port {self.port}: use 0 (any free one) to 65535")
        _address("--bind-address", self.bind_address)
        resolved = self.with_default_networks()
        service = _network("--service-cidr", resolved.service_cidr)
        if service.overlaps(_network("--pod-cidr", resolved.pod_cidr)):
            raise ConfigError("--service-cidr and --pod-cidr overlap")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str | bytes) -> ClusterConfig:
        data: dict[str, Any] = json.loads(text)
        for name in ("etcd_servers", "components", "server_flags", "manager_flags"):
            data[name] = tuple(data.get(name, ()))
        known = {f.name for f in dataclasses.fields(ClusterConfig)}
        return ClusterConfig(**{k: v for k, v in data.items() if k in known})

    def replace(self, **changes: Any) -> ClusterConfig:
        return dataclasses.replace(self, **changes)

    def with_default_networks(self) -> ClusterConfig:
        return self.replace(
            service_cidr=self.service_cidr or DEFAULT_SERVICE_CIDR,
            pod_cidr=self.pod_cidr or DEFAULT_POD_CIDR,
        )

    @property
    def directory(self) -> Path:
        from pilothouse.cluster.state import clusters_directory

        return Path(self.data_dir) if self.data_dir else clusters_directory() / self.name


def check_name(name: str) -> None:
    """:raises ConfigError: no name for a cluster (it is part of paths, too)."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: use at most 32 lower-case letters, digits and '-', "
            "starting and ending with a letter or digit"
        )


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{flag} {value!r}: use one of {', '.join(allowed)}")


def _address(flag: str, value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ConfigError(f"{flag} {value!r} is not an IP address") from None


def _network(flag: str, value: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ConfigError(f"{flag} {value!r} is not a network: {error}") from None
    if not isinstance(network, ipaddress.IPv4Network):
        raise ConfigError(f"{flag} {value!r}: IPv6 is not supported yet")
    if network.prefixlen > 24:
        raise ConfigError(f"{flag} {value!r} is too small: use a /24 or larger")
    return network
