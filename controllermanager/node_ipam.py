"""Gives each node a range of pod addresses (``--allocate-node-cidrs``): the RangeAllocator."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, uid_of
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import NODES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment


class RangesFull(Exception):
    """CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted
    range"""


class Ranges:
    """The subnets of one cluster CIDR: which are taken. Pure."""

    def __init__(self, cluster: str, mask_size: int) -> None:
        """:raises ValueError: no network, or a mask that is shorter than the network's."""
        network = ip_network(cluster)
        if not isinstance(network, IPv4Network):
            raise ValueError(f"{cluster}: only IPv4 cluster CIDRs are supported")
        if mask_size < network.prefixlen:
            raise ValueError("new CIDR set failed; the node CIDR size is too big")
        self._network = network
        self._mask = mask_size
        self._count = 1 << (mask_size - network.prefixlen)
        self._size = 1 << (32 - mask_size)
        self._taken: set[int] = set()
        self._next = 0

    def occupy(self, cidr: str) -> None:
        self._taken.update(self._indexes(cidr))

    def release(self, cidr: str) -> None:
        self._taken.difference_update(self._indexes(cidr))

    def _indexes(self, cidr: str) -> range:
        """The subnets that a network touches; none when it is outside."""
        network = ip_network(cidr)
        if not isinstance(network, IPv4Network) or not network.overlaps(self._network):
            return range(0)
        base = int(self._network.network_address)
        first = max((int(network.network_address) - base) // self._size, 0)
        last = min((int(network.broadcast_address) - base) // self._size, self._count - 1)
        return range(first, last + 1)

    def allocate(self) -> str:
        """The next free one after the last that was given. :raises RangesFull:"""
        for step in range(self._count):
            index = (self._next + step) % self._count
            if index not in self._taken:
                self._taken.add(index)
                self._next = (index + 1) % self._count
                address = int(self._network.network_address) + index * self._size
                return str(IPv4Network((address, self._mask)))
        raise RangesFull(
            "CIDR allocation failed; there are no remaining CIDRs left to allocate in the "
            "accepted range"
        )


class NodeIpamController(Controller):
    name = "node-ipam-controller"
    max_retries = None

    def __init__(
        self, env: Environment, *, cluster_cidr: str, mask_size: int, service_cidr: str = ""
    ) -> None:
        # One worker: ranges are given one after the other.
        super().__init__(env, component="cidrAllocator")
        self._ranges = Ranges(cluster_cidr, mask_size)
        if service_cidr:
            self._ranges.occupy(service_cidr)
        self._nodes = self.watch(NODES, self._seen, lambda _, new: self._seen(new), self._gone)

    def _seen(self, node: Obj) -> None:
        cidrs = pod_cidrs(node)
        for cidr in cidrs:
            self._ranges.occupy(cidr)
        if not cidrs and not meta(node).get("deletionTimestamp"):
            self.enqueue(node)

    def _gone(self, node: Obj) -> None:
        for cidr in pod_cidrs(node):
            self._ranges.release(cidr)

    async def sync(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None or pod_cidrs(node):
            return
        try:
            cidr = self._ranges.allocate()
        except RangesFull as error:
            reference = {"kind": "Node", "name": name_of(node), "uid": uid_of(node)}
            message = f"Node {name_of(node)} status is now: CIDRNotAvailable"
            self.recorder.event(reference, "Normal", "CIDRNotAvailable", message)
            raise error
        patch = {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        try:
            await self.client.patch(NODES, key, patch, "application/strategic-merge-patch+json")
        except BaseException:
            self._ranges.release(cidr)
            message = f"Node {name_of(node)} status is now: CIDRAssignmentFailed"
            reference = {"kind": "Node", "name": name_of(node), "uid": uid_of(node)}
            self.recorder.event(reference, "Normal", "CIDRAssignmentFailed", message)
            raise


def pod_cidrs(node: Obj) -> list[str]:
    cidrs = get_nested(node, "spec", "podCIDRs")
    if cidrs:
        return list(cidrs)
    cidr = get_nested(node, "spec", "podCIDR")
    return [cidr] if cidr else []
