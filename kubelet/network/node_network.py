"""Several nodes on one machine: a bridge on the machine, a network namespace a node.

    machine  ph-<hash> (gateway address) --veth-- eth0  node namespace  cni0 --veth-- pods
    routes   machine: every pod CIDR via its node, service CIDR via the bridge
             node:    the other nodes' pod CIDRs via them, everything else via the machine

All of it is found again by name, so that setup after a kill -9 repairs what is there, and
teardown needs no state. Blocking calls of a few milliseconds; call them from a thread.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from pilothouse.kubelet.network.namespaces import (
    create_netns,
    delete_netns,
    is_netns,
    run_in_netns,
)
from pilothouse.kubelet.network.netlink import Netlink, NetlinkError, mac_for
from pilothouse.kubelet.network.pod_network import (
    BRIDGE_NETFILTER,
    NetworkUnavailable,
    configure_inside,
    require_bridge_netfilter,
    write_sysctl,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

NETNS_DIRECTORY = "/run/netns"


class NetworkConflict(Exception):
    """Another user of the machine has these addresses; the message names the flag to change."""


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """``netns`` is a path: for ``run_in_netns``, ``open_socket_in`` and the shim."""

    name: str
    ip: str
    netns: str


def short_hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def choose_subnet(seed: str, base: str, prefix: int, taken: Iterable[str]) -> str:
    """A subnet of ``base`` that overlaps nothing in ``taken``, the same for the same ``seed``.

    :raises NetworkConflict: when nothing is free.
    """
    used = [network for text in taken if (network := IPv4Network(text, strict=False)).prefixlen]
    whole = IPv4Network(base)
    count = 1 << (prefix - whole.prefixlen)
    size = 1 << (32 - prefix)
    start = int(short_hash(seed), 16) % count
    for step in range(count):
        address = int(whole.network_address) + ((start + step) % count) * size
        candidate = IPv4Network((address, prefix))
        if not any(candidate.overlaps(network) for network in used):
            return str(candidate)
    raise NetworkConflict(f"no free /{prefix} network in {base}")


def machine_networks() -> list[str]:
    """What this machine (the calling thread's namespace) routes already."""
    with Netlink() as netlink:
        routes = [route.destination for route in netlink.routes()]
        return routes + [address for _, address in netlink.addresses()]


class ClusterNetwork:
    """The network of one cluster on this machine."""

    def __init__(
        self,
        cluster: str,
        *,
        node_subnet: str,
        service_cidr: str,
        netns_directory: str = NETNS_DIRECTORY,
        egress: bool = False,
    ) -> None:
        self._cluster = cluster
        self._subnet = IPv4Network(node_subnet)
        self._service_cidr = service_cidr
        self._directory = netns_directory
        self._egress = egress
        self._pod_cidrs: dict[str, str] = {}
        self._nodes: dict[str, NodeNetwork] = {}
        self.bridge = f"ph-{short_hash(cluster)}"

    @property
    def gateway(self) -> str:
        """The machine's address on the bridge: where pods and nodes reach the API server."""
        return str(self._subnet.network_address + 1)

    @property
    def nodes(self) -> list[NodeNetwork]:
        return list(self._nodes.values())

    def setup(self) -> None:
        """The bridge, its address, sysctls and the service route. Idempotent.

        :raises NetworkUnavailable: privileges or kernel modules are missing.
        :raises NetworkConflict: another network of the machine has these addresses.
        """
        _load_bridge_netfilter()
        require_bridge_netfilter()
        with Netlink() as netlink:
            self._refuse_conflicts(netlink, "--node-subnet", str(self._subnet))
            self._refuse_conflicts(netlink, "--service-cidr", self._service_cidr)
            try:
                index = netlink.add_bridge(self.bridge, mac_for(self.gateway))
                netlink.add_address(index, f"{self.gateway}/{self._subnet.prefixlen}")
                netlink.set_up(index)
            except NetlinkError as error:
                raise NetworkUnavailable(
                    f"cannot make the network bridge {self.bridge} ({error.strerror}): run as "
                    "root on a kernel with the modules bridge and veth, or use --runtime process"
                ) from None
            # Without a route the lookup fails before the Service rules of OUTPUT are asked.
            netlink.set_route(self._service_cidr, link=index)
        # On the machine only this bridge's settings are changed: they end with it.
        write_sysctl(f"net.ipv4.conf.{self.bridge}.forwarding", "1")
        write_sysctl(f"net.ipv4.conf.{self.bridge}.route_localnet", "1")
        if self._egress:
            write_sysctl("net.ipv4.ip_forward", "1")
            self._allow_egress(str(self._subnet))

    def add_node(self, name: str, ip: str = "") -> NodeNetwork:
        """The namespace of node ``name`` with eth0 on the bridge. Idempotent.

        An existing node keeps its address; a new one gets ``ip`` or the first free one.
        """
        path = self._netns_path(name)
        if not is_netns(path):
            delete_netns(path)
            create_netns(path)
        address = run_in_netns(path, _eth0_address)
        if not address or (ip and ip != address) or not self._has_veth(name):
            known = self._nodes[name].ip if name in self._nodes else ""
            address = ip or address or known or self._free_address()
            self._connect(name, path, address)
        run_in_netns(path, prepare_node_namespace)
        node = NodeNetwork(name, address, path)
        self._nodes[name] = node
        for other, cidr in self._pod_cidrs.items():
            if other != name:
                self._route_in_node(node, cidr, self._nodes[other].ip)
        return node

    def route_pods(self, name: str, pod_cidr: str) -> None:
        """Everybody learns that the pods of ``pod_cidr`` are behind node ``name``. Idempotent.

        :raises NetworkConflict: the machine routes these addresses elsewhere.
        """
        node = self._nodes[name]
        with Netlink() as netlink:
            self._refuse_conflicts(netlink, "--pod-cidr", pod_cidr)
            index = netlink.link_index(self.bridge)
            netlink.set_route(pod_cidr, gateway=node.ip, link=index, source=self.gateway)
        if self._egress:
            self._allow_egress(pod_cidr)
        self._pod_cidrs[name] = pod_cidr
        for other in self._nodes.values():
            if other.name != name:
                self._route_in_node(other, pod_cidr, node.ip)

    def route_services(self, name: str) -> None:
        """The machine sends traffic for Services to node ``name``, whose rules route it on: the
        machine needs no rules of its own. Idempotent."""
        with Netlink() as netlink:
            index = netlink.link_index(self.bridge)
            netlink.set_route(
                self._service_cidr, gateway=self._nodes[name].ip, link=index, source=self.gateway
            )

    def remove_node(self, name: str) -> None:
        """Missing is fine. Containers must be gone: they would keep the namespace alive."""
        cidr = self._pod_cidrs.pop(name, "")
        with Netlink() as netlink:
            if cidr and netlink.find_link(self.bridge):
                netlink.delete_route(cidr, link=netlink.link_index(self.bridge))
            netlink.delete_link(self._veth(name))
        self._nodes.pop(name, None)
        delete_netns(self._netns_path(name))

    def teardown(self) -> None:
        """Removes everything of this cluster, also what an earlier process left."""
        prefix = f"{self.bridge}-"
        if os.path.isdir(self._directory):
            for entry in os.listdir(self._directory):
                if entry.startswith(prefix):
                    self.remove_node(entry.removeprefix(prefix))
        if self._egress:
            self._forbid_egress()
        with Netlink() as netlink:
            bridge = netlink.find_link(self.bridge)
            for link in netlink.links() if bridge else []:
                if bridge and link.master == bridge.index:
                    netlink.delete_link(link.name)
            netlink.delete_link(self.bridge)  # its address and routes go with it
        self._pod_cidrs.clear()

    # --- inside

    def _netns_path(self, node: str) -> str:
        return os.path.join(self._directory, f"{self.bridge}-{node}")

    def _veth(self, node: str) -> str:
        return f"pv{short_hash(self._cluster, node)}"

    def _has_veth(self, node: str) -> bool:
        with Netlink() as netlink:
            link = netlink.find_link(self._veth(node))
            return link is not None and link.master == netlink.link_index(self.bridge)

    def _connect(self, name: str, path: str, address: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Netlink() as netlink:
                netlink.delete_link(self._veth(name))
                run_in_netns(fd, _delete_eth0)
                index = netlink.add_veth(
                    self._veth(name),
                    "eth0",
                    fd,
                    master=netlink.link_index(self.bridge),
                    peer_mac=mac_for(address),
                )
                netlink.set_up(index)
        finally:
            os.close(fd)
        cidr = f"{address}/{self._subnet.prefixlen}"
        run_in_netns(path, lambda: configure_inside(cidr, self.gateway))

    def _free_address(self) -> str:
        taken = self._known_addresses()
        for host in self._subnet.hosts():
            if str(host) != self.gateway and str(host) not in taken:
                return str(host)
        raise NetworkConflict(f"no address for another node in {self._subnet}")

    def _known_addresses(self) -> set[str]:
        known = {node.ip for node in self._nodes.values()}
        prefix = f"{self.bridge}-"
        for entry in os.listdir(self._directory):
            path = os.path.join(self._directory, entry)
            if entry.startswith(prefix) and is_netns(path):
                known.add(run_in_netns(path, _eth0_address))
        return known - {""}

    def _route_in_node(self, node: NodeNetwork, cidr: str, via: str) -> None:
        def add() -> None:
            with Netlink() as netlink:
                netlink.set_route(cidr, gateway=via, link=netlink.link_index("eth0"))

        run_in_netns(node.netns, add)

    def _refuse_conflicts(self, netlink: Netlink, flag: str, cidr: str) -> None:
        ours = netlink.find_link(self.bridge)
        wanted = IPv4Network(cidr)
        for route in netlink.routes():
            network = IPv4Network(route.destination)
            if network.prefixlen == 0 or (ours and route.link == ours.index):
                continue
            if wanted.overlaps(network):
                raise NetworkConflict(
                    f"{cidr} overlaps with {network}, which this machine routes already: choose "
                    f"another range with {flag}"
                )

    def _comment(self) -> str:
        return f"pilothouse {self.bridge}"

    def _allow_egress(self, *sources: str) -> None:
        """``sources`` reach the world with the machine's address."""
        iptables = _iptables()
        mark = ["-m", "comment", "--comment", self._comment()]
        rules = [
            ["filter", "FORWARD", way, self.bridge, *mark, "-j", "ACCEPT"] for way in ("-i", "-o")
        ]
        for source in sources:
            out = ["!", "-o", self.bridge, *mark, "-j", "MASQUERADE"]
            rules.append(["nat", "POSTROUTING", "-s", source, *out])
        for table, *rule in rules:
            if not _succeeds([*iptables, "-t", table, "-C", *rule]):
                _succeeds([*iptables, "-t", table, "-A", *rule])

    def _forbid_egress(self) -> None:
        """Removes the rules of this cluster, whoever made them."""
        iptables = _iptables()
        for table in ("filter", "nat"):
            listing = subprocess.run(
                [*iptables, "-t", table, "-S"], capture_output=True, text=True, check=False
            )
            for line in listing.stdout.splitlines():
                if f'"{self._comment()}"' in line and line.startswith("-A "):
                    _succeeds([*iptables, "-t", table, "-D", *shlex.split(line)[1:]])


def _iptables() -> list[str]:
    found = shutil.which("iptables")
    if found is None:
        raise NetworkUnavailable("iptables is missing: install the package iptables")
    return [found, "-w"]


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _load_bridge_netfilter() -> None:
    modprobe = shutil.which("modprobe")
    if not os.path.exists(BRIDGE_NETFILTER) and modprobe:
        _succeeds([modprobe, "br_netfilter"])


def _eth0_address() -> str:
    with Netlink() as netlink:
        link = netlink.find_link("eth0")
        if link is None:
            return ""
        found = [text for index, text in netlink.addresses() if index == link.index]
        return found[0].partition("/")[0] if found else ""


def _delete_eth0() -> None:
    with Netlink() as netlink:
        netlink.delete_link("eth0")


def prepare_node_namespace() -> None:
    with Netlink() as netlink:
        netlink.set_up(netlink.link_index("lo"))
    write_sysctl("net.ipv4.ip_forward", "1")
    write_sysctl("net.ipv4.conf.all.route_localnet", "1")
    # A Service without endpoints refuses by ICMP. By default one sender gets one such answer a
    # second, and the redirects of a router on one link count against it: clients would time out.
    write_sysctl("net.ipv4.icmp_ratelimit", "0")
    write_sysctl("net.ipv4.conf.all.send_redirects", "0")
    write_sysctl("net.ipv4.conf.default.send_redirects", "0")
    require_bridge_netfilter()
