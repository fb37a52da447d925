"""The pods' network of one node: a bridge in the node's namespace, a veth and an address a pod.

Runs inside the node's shim, whose threads are in the node's namespace. ``attach`` takes about
2 ms: veth (bridge port with hairpin) here, address and default route in the pod's namespace.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from pilothouse.kubelet.network.namespaces import run_in_netns
from pilothouse.kubelet.network.netlink import Netlink, mac_for

if TYPE_CHECKING:
    from pilothouse.kubelet.network.ipam import FilePool

BRIDGE = "cni0"
BRIDGE_NETFILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"


class NetworkUnavailable(Exception):
    """The machine lacks something; the message says what and what to do."""


def require_bridge_netfilter() -> None:
    """Packets between ports of a bridge must pass the Service rules of their node.

    :raises NetworkUnavailable: when the kernel cannot do that.
    """
    try:
        with open(BRIDGE_NETFILTER, "r+", encoding="ascii") as file:
            if file.read().strip() != "1":
                file.write("1")
    except OSError as error:
        raise NetworkUnavailable(
            f"the kernel module br_netfilter is not there ({error.strerror}): run "
            '"modprobe br_netfilter" as root, or use --runtime process'
        ) from None


def veth_name(sandbox_id: str) -> str:
    return "veth" + hashlib.sha256(sandbox_id.encode()).hexdigest()[:10]


class PodNetwork:
    """Attaches sandboxes of one node. Methods block for a millisecond or two; thread-safe."""

    def __init__(self, pool: FilePool, *, bridge: str = BRIDGE, mtu: int = 0) -> None:
        self._pool = pool
        self._bridge = bridge
        self._mtu = mtu
        self._index = 0

    @property
    def cidr(self) -> str:
        return str(self._pool.pool.network)

    def setup(self) -> None:
        """The bridge with the gateway's address. Idempotent.

        :raises NetworkUnavailable: no br_netfilter or no bridges in this kernel.
        """
        require_bridge_netfilter()
        pool = self._pool.pool
        with Netlink() as netlink:
            try:
                self._index = netlink.add_bridge(self._bridge, mac_for(pool.gateway))
            except OSError as error:
                raise NetworkUnavailable(
                    f"cannot make a network bridge ({error.strerror}): the kernel needs the "
                    "module bridge, and this process CAP_NET_ADMIN; or use --runtime process"
                ) from None
            netlink.add_address(self._index, f"{pool.gateway}/{pool.prefix_length}")
            netlink.set_up(self._index)

    def teardown(self) -> None:
        """Removes the bridge; all sandboxes must be detached."""
        with Netlink() as netlink:
            netlink.delete_link(self._bridge)

    def attach(self, sandbox_id: str, netns: int) -> str:
        """Gives the namespace of fd ``netns`` an address and a way out; returns the address."""
        address = self._pool.allocate(sandbox_id)
        name = veth_name(sandbox_id)
        try:
            with Netlink() as netlink:
                netlink.delete_link(name)
                index = netlink.add_veth(
                    name,
                    "eth0",
                    netns,
                    mtu=self._mtu,
                    master=self._index,
                    peer_mac=mac_for(address),
                )
                netlink.set_hairpin(index)
                netlink.set_up(index)
            pool = self._pool.pool
            cidr, gateway = f"{address}/{pool.prefix_length}", pool.gateway
            run_in_netns(netns, lambda: configure_inside(cidr, gateway))
        except BaseException:
            self.detach(sandbox_id)
            raise
        return address

    def detach(self, sandbox_id: str) -> None:
        """Removes the veth and frees the address. Missing is fine."""
        with Netlink() as netlink:
            netlink.delete_link(veth_name(sandbox_id))
        self._pool.release(sandbox_id)

    def keep_only(self, sandbox_ids: list[str]) -> None:
        """After a restart: addresses and veths of unknown sandboxes go."""
        self._pool.keep_only(sandbox_ids)
        keep = {veth_name(sandbox_id) for sandbox_id in sandbox_ids}
        with Netlink() as netlink:
            for link in netlink.links():
                if link.master == self._index and link.kind == "veth" and link.name not in keep:
                    netlink.delete_link(link.name)


def configure_inside(cidr: str, gateway: str) -> None:
    """In the calling thread's namespace: lo and eth0 up, the address, the default route."""
    with Netlink() as netlink:
        netlink.set_up(netlink.link_index("lo"))
        index = netlink.link_index("eth0")
        netlink.add_address(index, cidr)
        netlink.set_up(index)
        netlink.set_route("0.0.0.0/0", gateway=gateway, link=index)


def loopback_up(netns: int) -> None:
    """For sandboxes without a pod network."""

    def up() -> None:
        with Netlink() as netlink:
            netlink.set_up(netlink.link_index("lo"))

    run_in_netns(netns, up)


def write_sysctl(name: str, value: str) -> None:
    """``net.ipv4.ip_forward`` or ``net/ipv4/ip_forward``, in the calling thread's namespaces."""
    parts = name.split("/") if "/" in name else name.split(".")
    if ".." in parts or "" in parts:
        raise ValueError(f"invalid sysctl name {name!r}")
    path = os.path.join("/proc/sys", *parts)
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
