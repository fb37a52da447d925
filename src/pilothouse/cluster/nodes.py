"""The nodes of a cluster on this machine: networks, runtimes, kubelets, proxies.

With the oci runtime each node is a network namespace on the cluster's bridge; with the process and
fake runtimes nodes are only names. What each needs is put together here.
"""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.cluster.kubelets import make_kubelet
from pilothouse.cluster.state import ProcessId
from pilothouse.kubeclient.interfaces import Component, Environment
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.kubelet import Kubelet
from pilothouse.kubelet.node_status import Machine

if TYPE_CHECKING:
    from pilothouse.cluster.core import ClusterCore

log = logging.getLogger(__name__)
FAKE_MACHINE = Machine(
    cpus=32, memory_bytes=256 << 30, disk_bytes=1 << 40, architecture="amd64", kernel="fake",
    os_image="Pilothouse fake node", machine_id="", boot_id="",
)  # fmt: skip


class Nodes:
    def __init__(self, core: ClusterCore) -> None:
        self._core = core
        self.config = core.config
        self.runtime_name = ""
        self._machine: Any = None
        """``machine_nodes.MachineNodes`` when nodes are real (oci, process)."""

    @property
    def names(self) -> list[str]:
        return [self.name_of(i) for i in range(self.config.nodes)]

    def name_of(self, index: int) -> str:
        return f"{self.config.name}-{index + 1}"

    def pod_cidr_of(self, index: int) -> str:
        """A /24 of the cluster's pod network per node (smaller ones for many fake nodes)."""
        network = ipaddress.ip_network(self.config.pod_cidr)
        length = 24
        while 2 ** (length - network.prefixlen) < self.config.nodes and length < 30:
            length += 1
        if 2 ** (length - network.prefixlen) < self.config.nodes:
            length = network.prefixlen  # very many fake nodes share one range
            return str(network)
        size = 2 ** (32 - length)
        start = int(network.network_address) + index * size
        return f"{ipaddress.ip_address(start)}/{length}"

    # -- before the API server -----------------------------------------------------------

    async def prepare(self) -> None:
        """Chooses the runtime and makes the network. :raises StartFailure: it can't."""
        if self.config.runtime == "fake":
            self.runtime_name = "fake"
            return
        from pilothouse.cluster.machine_nodes import MachineNodes

        self._machine = MachineNodes(self._core, self)
        await self._machine.prepare()
        self.runtime_name = self._machine.runtime_name

    def server_addresses(self) -> list[str]:
        """Addresses besides the bind address at which pods reach the API server."""
        return self._machine.server_addresses() if self._machine is not None else []

    def processes(self) -> list[ProcessId]:
        return self._machine.processes() if self._machine is not None else []

    # -- with it -------------------------------------------------------------------------

    def components(self, environment: Environment) -> list[Component]:
        if self._machine is not None:
            return self._machine.components(environment)  # type: ignore[no-any-return]
        return [self._fake_node(environment, i) for i in range(self.config.nodes)]

    def _fake_node(self, environment: Environment, index: int) -> Component:
        from pilothouse.kubelet.runtime.fake import FakeRuntime

        name = self.name_of(index)
        random = Random(self._core.random.getrandbits(64))
        runtime = FakeRuntime(
            self._core.clock, random, pod_cidr=self.pod_cidr_of(index), node_ip="127.0.0.1"
        )
        config = KubeletConfig(
            node_name=name,
            root_dir=str(self._core.config.directory / "nodes" / name),
            cluster_name=self.config.name,
            pod_cidr=self.pod_cidr_of(index),
            serve=False,
        )
        return self.make_kubelet(environment, config, runtime, runtime, FAKE_MACHINE, real=False)

    def make_kubelet(
        self,
        environment: Environment,
        config: KubeletConfig,
        runtime: Any,
        images: Any,
        machine: Machine | None,
        *,
        real: bool,
    ) -> Kubelet:
        """A kubelet that acts as its node; the API server calls it directly."""
        env = self._core.environment_as(
            environment, f"system:node:{config.node_name}", "system:nodes"
        )
        kubelet = make_kubelet(env, config, runtime, images, machine=machine, real=real)
        self._register(config.node_name, kubelet)
        return kubelet

    def _register(self, node_name: str, kubelet: Kubelet) -> None:
        try:
            from pilothouse.cluster.kubelet_adapter import KubeletAdapter
        except ImportError:
            return
        assert self._core.server is not None
        self._core.server.local_nodes.register(node_name, KubeletAdapter(kubelet))

    async def close(self) -> None:
        if self._machine is not None:
            await self._machine.close()

    @property
    def data_directory(self) -> Path:
        return self.config.directory / "nodes"
