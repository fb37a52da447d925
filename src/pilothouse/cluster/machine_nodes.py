"""Real nodes on this machine: a network namespace, a runtime shim, a kubelet and a proxy each.

With the oci runtime the machine itself gets a bridge and routes to pods and Services, so that
Services answer on it, too. With the process runtime pods are processes of this machine and there is
nothing to make. Everything made here can be found again by a later process, or removed by it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.cluster.config import DEFAULT_POD_CIDR, DEFAULT_SERVICE_CIDR
from pilothouse.cluster.core import StartFailure
from pilothouse.cluster.node_https import NodeHTTPS
from pilothouse.cluster.state import ProcessId, images_directory, start_time, write_private
from pilothouse.kubeclient.interfaces import Component, Environment
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.images.registry import RegistryClient
from pilothouse.kubelet.images.service import LocalImageService
from pilothouse.kubelet.images.store import ImageStore
from pilothouse.kubelet.runtime.errors import RuntimeFailure

if TYPE_CHECKING:
    from pilothouse.cluster.core import ClusterCore
    from pilothouse.cluster.nodes import Nodes
    from pilothouse.kubelet.network.node_network import ClusterNetwork
    from pilothouse.kubelet.runtime.oci import OCIRuntime

log = logging.getLogger(__name__)
NODE_NETWORKS = "10.199.0.0/16"
"""Each cluster's nodes get a /24 of this that nothing on the machine uses."""
USER_IDS, MAX_PODS = 65536, 110
"""Ids of a pod with users of its own, and how many pods a node may have."""
DNS_HOST = 10
"""The Service kube-dns has the tenth address of the service range, as kubeadm has it."""


class MachineNodes:
    def __init__(self, core: ClusterCore, nodes: Nodes) -> None:
        self._core = core
        self._nodes = nodes
        self._config = core.config
        self.runtime_name = ""
        self._network: ClusterNetwork | None = None
        self._images: LocalImageService | None = None
        self._runtimes: list[Any] = []
        self._shims: list[ProcessId] = []

    # -- before the API server -----------------------------------------------------------

    async def prepare(self) -> None:
        """:raises StartFailure: the runtime that was asked for does not work here."""
        store = await asyncio.to_thread(ImageStore, str(images_directory()))
        self._images = LocalImageService(store, RegistryClient(self._core.clock))
        warning = await self._images.prepare()
        if warning:
            self._core.notes.append(f"no busybox image: {warning}")
        await self._choose()

    async def _choose(self) -> None:
        """The runtime that was asked for, or the best one that really starts."""
        from pilothouse.kubelet.runtime.probe import choose, explain, probe

        wanted = self._config.runtime
        probes = [] if wanted != "auto" else await asyncio.to_thread(probe)
        if wanted == "oci" or (probes and choose(probes).name == "oci"):
            try:
                await self._prepare_oci()
                return
            except (StartFailure, RuntimeFailure, OSError, RuntimeError) as error:
                await self._undo_oci()
                if wanted == "oci":
                    raise StartFailure(f"--runtime oci does not work here: {error}") from error
                self._core.notes.append(f"runtime oci did not start: {error}")
        if probes:
            process = next(p for p in probes if p.name == "process")
            self._core.notes.append(explain(process, probes))
        self._prepare_process()

    async def _prepare_oci(self) -> None:
        from pilothouse.kubelet.network.node_network import NetworkConflict
        from pilothouse.kubelet.network.pod_network import NetworkUnavailable

        if os.geteuid() != 0:
            raise StartFailure("it needs root for namespaces and cgroups; run as root")
        if not shutil.which("crun"):
            raise StartFailure("crun is missing: apt-get install crun (or make up as root)")
        self._core._report("making the network of the nodes")
        try:
            await asyncio.to_thread(self._make_network)
        except (NetworkUnavailable, NetworkConflict) as error:
            raise StartFailure(str(error)) from error
        self._core._report("starting the container runtime")
        self._runtimes = [self._oci_runtime(i) for i in range(self._config.nodes)]
        await asyncio.gather(*(runtime.start() for runtime in self._runtimes))
        for runtime in self._runtimes:
            pid = await runtime.shim_pid()
            self._shims.append(ProcessId(pid, start_time(pid)))
        self.runtime_name = "oci"
        if self._with_proxy and shutil.which("iptables-restore") is None:
            self._core.notes.append(
                "iptables is missing: Services lead nowhere until it is there (apt-get install "
                "iptables, or make up as root)"
            )

    def _make_network(self) -> None:
        from pilothouse.kubelet.network.node_network import ClusterNetwork

        chosen = self._choose_networks()
        self._core.config = self._nodes.config = self._config = self._config.replace(
            service_cidr=chosen["serviceCIDR"], pod_cidr=chosen["podCIDR"]
        )
        network = ClusterNetwork(
            self._config.name,
            node_subnet=chosen["nodeSubnet"],
            service_cidr=self._config.service_cidr,
        )
        self._network = network
        network.setup()
        for i in range(self._config.nodes):
            network.add_node(self._nodes.name_of(i))
        for i in range(self._config.nodes):
            network.route_pods(self._nodes.name_of(i), self._nodes.pod_cidr_of(i))
        # The machine reaches Services through the first node, whose rules do the rest: it needs
        # no rules of its own, and clusters side by side don't meet.
        network.route_services(self._nodes.name_of(0))

    def _choose_networks(self) -> dict[str, str]:
        """Networks of the last time (``network.json``), what was asked for, or free ones."""
        from pilothouse.kubelet.network.node_network import choose_subnet, machine_networks

        path = self._config.directory / "network.json"
        try:
            kept: dict[str, str] = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            kept = {}
        taken = machine_networks()
        name = self._config.name
        wanted = {
            "nodeSubnet": (self._config.node_cidr, "", NODE_NETWORKS, 24),
            "serviceCIDR": (self._config.service_cidr, DEFAULT_SERVICE_CIDR, "10.96.0.0/12", 16),
            "podCIDR": (self._config.pod_cidr, DEFAULT_POD_CIDR, "10.128.0.0/10", 16),
        }
        chosen = {}
        for key, (asked, usual, base, prefix) in wanted.items():
            chosen[key] = asked or kept.get(key) or (
                usual if usual and not overlaps(usual, taken)
                else choose_subnet(f"{name}/{key}", base, prefix, taken)
            )  # fmt: skip
        write_private(path, json.dumps(chosen))
        return chosen

    def _oci_runtime(self, index: int) -> OCIRuntime:
        from pilothouse.kubelet.runtime.oci import OCIRuntime
        from pilothouse.kubelet.runtime.shim_client import ShimConfig

        assert self._images is not None and self._network is not None
        node = self._network.nodes[index]
        config = ShimConfig(
            state_dir=str(self._shim_directory(node.name)),
            netns=node.netns,
            pod_cidr=self._nodes.pod_cidr_of(index),
            node_ip=node.ip,
            cgroup_root=f"/kubepods-{node.name}",
        )
        return OCIRuntime(config, self._images)

    def _shim_directory(self, node: str) -> Path:
        return self._nodes.data_directory / node / "shim"

    def _prepare_process(self) -> None:
        from pilothouse.kubelet.runtime.process import ProcessRuntime

        assert self._images is not None
        if self._config.nodes > 1:
            self._core.notes.append("runtime process: all nodes share the machine's network")
        for i in range(self._config.nodes):
            random = Random(self._core.random.getrandbits(64))
            directory = self._nodes.data_directory / self._nodes.name_of(i) / "process"
            self._runtimes.append(
                ProcessRuntime(self._core.clock, random, str(directory), self._images)
            )
        self.runtime_name = "process"

    def server_addresses(self) -> list[str]:
        return [self._network.gateway] if self._network is not None else []

    def processes(self) -> list[ProcessId]:
        return list(self._shims)

    # -- with it -------------------------------------------------------------------------

    def components(self, environment: Environment) -> list[Component]:
        components: list[Component] = []
        for index in range(self._config.nodes):
            components += self._kubelet(environment, index)
        if self._with_proxy:
            components.extend(self._proxies(environment))
        if self._dns_ip:
            components.append(self._dns(environment))
        return components

    @property
    def _with_proxy(self) -> bool:
        wanted = "proxy" in self._config.components and self._config.proxy_mode == "iptables"
        return wanted and self._network is not None

    @property
    def _dns_ip(self) -> str:
        """Where pods ask for names; empty: nowhere."""
        if self._network is None or "dns" not in self._config.components:
            return ""
        return self._dns_service_ip if self._with_proxy else self._network.gateway

    @property
    def _dns_service_ip(self) -> str:
        return str(ipaddress.ip_network(self._config.service_cidr)[DNS_HOST])

    def _dns(self, environment: Environment) -> Component:
        """On the machine's address in the nodes' network, behind the Service kube-dns."""
        from pilothouse.clusterdns.config import DNSConfig
        from pilothouse.clusterdns.server import DNSServer

        assert self._network is not None
        config = DNSConfig(
            address=self._network.gateway,
            any_port=self._with_proxy,
            cluster_domain=self._config.cluster_domain,
            service_ip=self._dns_service_ip,
        )
        return DNSServer(environment, config)

    def _kubelet(self, environment: Environment, index: int) -> list[Component]:
        name = self._nodes.name_of(index)
        runtime = self._runtimes[index]
        in_network = self._network is not None
        config = KubeletConfig(
            node_name=name,
            root_dir=str(self._nodes.data_directory / name),
            cluster_name=self._config.name,
            node_ip=self._network.nodes[index].ip if self._network is not None else "127.0.0.1",
            netns=self._network.nodes[index].netns if self._network is not None else None,
            pod_cidr=self._nodes.pod_cidr_of(index) if in_network else "",
            cgroup_root=f"/kubepods-{name}" if in_network else "",
            cluster_dns=(self._dns_ip,) if self._dns_ip else (),
            cluster_domain=self._config.cluster_domain,
            user_namespace_first=USER_IDS * (1 + index * MAX_PODS),  # one kernel has them all
            serve=in_network,
        )
        kubelet = self._nodes.make_kubelet(environment, config, runtime, runtime, None, real=True)
        if not in_network:
            return [kubelet]
        assert self._core.pki is not None
        return [kubelet, NodeHTTPS(kubelet, config, self._core.pki)]

    def _proxies(self, environment: Environment) -> list[Component]:
        """One in each node's namespace."""
        from pilothouse.kubelet.network.namespaces import open_socket_in
        from pilothouse.kubeproxy.config import ProxyConfig
        from pilothouse.kubeproxy.proxier import Proxier

        assert self._network is not None
        env = self._core.environment_as(environment, "system:kube-proxy", "system:node-proxier")
        cidr = self._config.pod_cidr
        return [
            Proxier(
                env,
                ProxyConfig(node.name, cluster_cidr=cidr, netns=node.netns),
                open_socket=partial(open_socket_in, node.netns),
            )
            for node in self._network.nodes
        ]

    # -- at the end ----------------------------------------------------------------------

    async def close(self) -> None:
        """Ends pods, shims and networks. What was never made is not missed."""
        await self._undo_oci()
        if self.runtime_name == "process":
            for runtime in self._runtimes:
                await runtime.close()
        if self._images is not None:
            await self._images.close()

    async def _undo_oci(self) -> None:
        if self._network is None:
            return
        runtimes, self._runtimes = self._runtimes, []
        await asyncio.gather(*(self._end_shim(runtime) for runtime in runtimes))
        network, self._network = self._network, None
        await _logged("removing the network", network.teardown)
        for runtime in runtimes:
            await runtime.close()

    @staticmethod
    async def _end_shim(runtime: OCIRuntime) -> None:
        try:
            await runtime.shutdown(everything=True)
        except (RuntimeFailure, OSError) as error:
            log.warning("the shim did not end its pods: %s", error)


def overlaps(cidr: str, taken: list[str]) -> bool:
    network = ipaddress.ip_network(cidr)
    others = (ipaddress.ip_network(text, strict=False) for text in taken)
    return any(o.version == 4 and o.prefixlen and o.overlaps(network) for o in others)


async def _logged(what: str, action: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(action)
    except OSError as error:
        log.warning("%s failed: %s", what, error)
