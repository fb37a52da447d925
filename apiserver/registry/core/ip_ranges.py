"""One family's addresses: the configured service CIDR and those of ServiceCIDR objects.

An address is taken once, whichever ranges hold it. Objects come and go (:meth:`IPRanges.set`,
:meth:`IPRanges.remove`); only ranges of objects that are ready and not being deleted give
addresses, while an address that is given back needs no range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.registry.core.ip_allocator import (
    AllocationError,
    IPAllocator,
    RangeFull,
)

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apis.meta.validation import IPAddress


class IPRanges(IPAllocator):
    """The allocator of the configured CIDR, which asks the others when it cannot serve."""

    def __init__(self, cidr: str, random: Random) -> None:
        super().__init__(cidr, random)
        self._ready: dict[str, set[str]] = {}
        """Names of the ready ServiceCIDRs, by range."""
        self._others: dict[str, IPAllocator] = {}

    def set(self, name: str, cidrs: list[str]) -> None:
        """The ready ranges of a ServiceCIDR, of any family."""
        self.remove(name)
        for cidr in cidrs:
            other = IPAllocator(cidr, self._random, taken=self._taken)
            if other.family == self.family and other.network != self.network:
                self._others.setdefault(cidr, other)
                self._ready.setdefault(cidr, set()).add(name)

    def remove(self, name: str) -> None:
        for cidr, names in list(self._ready.items()):
            names.discard(name)
            if not names:
                del self._ready[cidr], self._others[cidr]

    def allocate(self, ip: IPAddress, *, dry_run: bool = False) -> None:
        for other in self._others.values():
            if ip in other.network:
                return other.allocate(ip, dry_run=dry_run)
        return super().allocate(ip, dry_run=dry_run)

    def allocate_next(self, *, dry_run: bool = False) -> str:
        try:
            return super().allocate_next(dry_run=dry_run)
        except RangeFull:
            for other in self._others.values():
                try:
                    return other.allocate_next(dry_run=dry_run)
                except AllocationError:
                    continue
            raise


def ready_cidrs(service_cidr: Obj) -> list[str]:
    """The ranges that Services may have addresses of now."""
    if service_cidr["metadata"].get("deletionTimestamp"):
        return []
    conditions = (service_cidr.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return list((service_cidr.get("spec") or {}).get("cidrs") or ()) if ready else []
