"""Keeps ServiceCIDRs: ready while they are there, and there while Services have their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    get_nested,
    meta,
    name_of,
)
from pilothouse.controllermanager.controller import Controller, seconds_of
from pilothouse.kubeclient.resources import IP_ADDRESSES, SERVICE_CIDRS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
DELETION_GRACE = 10.0
"""API servers that have not seen the deletion yet may still take an address."""
READY = {"type": "Ready", "status": "True", "message": "Kubernetes Service CIDR is ready"}
TERMINATING = {
    "type": "Ready",
    "status": "False",
    "reason": "Terminating",
    "message": "There are still IPAddresses referencing the ServiceCIDR, please remove them or "
    "create a new ServiceCIDR",
}
Network = IPv4Network | IPv6Network


def networks_of(service_cidr: Obj) -> list[Network]:
    return [ip_network(text) for text in get_nested(service_cidr, "spec", "cidrs", default=())]


def containing(cidrs: Iterable[Obj], address: str) -> list[Obj]:
    """Those with a range that holds the address (or all of a range)."""
    if "/" in address:
        inner = ip_network(address)
        return [c for c in cidrs if any(_holds(outer, inner) for outer in networks_of(c))]
    single = ip_address(address)
    return [c for c in cidrs if any(single in network for network in networks_of(c))]


def _holds(outer: Network, inner: Network) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def can_go(cidr: Obj, cidrs: Sequence[Obj], addresses: Iterable[Obj]) -> bool:
    """Whether no address is left that only this ServiceCIDR covers."""
    others = [c for c in cidrs if name_of(c) != name_of(cidr)]
    if all(containing(others, text) for text in cidr["spec"]["cidrs"]):
        return True
    networks = networks_of(cidr)
    for address in addresses:
        single = ip_address(name_of(address))
        if any(single in n for n in networks) and not containing(others, name_of(address)):
            return False
    return True


class ServiceCIDRController(Controller):
    name = "service-cidr-controller"

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers, component="service-cidr-controller")
        self._cidrs = self.watch(
            SERVICE_CIDRS, self._added, lambda _, new: self.enqueue(new), self._gone
        )
        self._addresses = self.watch(IP_ADDRESSES, on_delete=self._address_gone)

    def _added(self, cidr: Obj) -> None:
        self.enqueue(cidr)
        self._gone(cidr)

    def _gone(self, cidr: Obj) -> None:
        """One more or one less may decide whether others can go."""
        for other in self._cidrs.list():
            if meta(other).get("deletionTimestamp"):
                self.enqueue(other)

    def _address_gone(self, address: Obj) -> None:
        if (meta(address).get("labels") or {}).get(MANAGED_BY) == ALLOCATOR:
            for cidr in containing(self._cidrs.list(), name_of(address)):
                if meta(cidr).get("deletionTimestamp"):
                    self.enqueue(cidr)

    async def sync(self, key: str) -> None:
        cidr = self._cidrs.get(key)
        if cidr is None:
            return
        deleted = meta(cidr).get("deletionTimestamp")
        if not deleted:
            await self._set_ready(await self._hold(cidr), READY)
        elif not can_go(cidr, self._cidrs.list(), self._managed()):
            await self._set_ready(cidr, TERMINATING)
        else:
            left = seconds_of(deleted) + DELETION_GRACE - self.now()
            if left > 0:
                self.queue.add_after(key, left)
            else:
                await self._release(cidr)

    def _managed(self) -> list[Obj]:
        return [
            a for a in self._addresses.list()
            if (meta(a).get("labels") or {}).get(MANAGED_BY) == ALLOCATOR
        ]  # fmt: skip

    async def _hold(self, cidr: Obj) -> Obj:
        if FINALIZER in (meta(cidr).get("finalizers") or ()):
            return cidr
        patch = {"metadata": {"finalizers": [FINALIZER]}}
        return await self.client.patch(
            SERVICE_CIDRS, name_of(cidr), patch, "application/strategic-merge-patch+json"
        )

    async def _release(self, cidr: Obj) -> None:
        if FINALIZER in (meta(cidr).get("finalizers") or ()):
            new = copy_object(cidr)
            new["metadata"]["finalizers"].remove(FINALIZER)
            await self.client.update(SERVICE_CIDRS, new)

    async def _set_ready(self, cidr: Obj, wanted: Obj) -> None:
        now = condition_of(cidr, "Ready") or {}
        if all(now.get(key, "") == wanted.get(key, "") for key in ("status", "reason", "message")):
            return
        condition = {"reason": "", **wanted, "lastTransitionTime": self.timestamp()}
        if now.get("status") == wanted["status"]:
            condition["lastTransitionTime"] = now["lastTransitionTime"]
        wanted = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": name_of(cidr)},
            "status": {"conditions": [condition]},
        }
        await self.client.patch(
            SERVICE_CIDRS,
            name_of(cidr),
            wanted,
            "application/apply-patch+yaml",
            subresource="status",
            field_manager=self.name,
            force=True,
        )
