"""Addresses of one CIDR, as Services' ClusterIPs are taken from.

Free addresses are chosen at random from the upper part of the range; the lower band is left to
people who choose an address themselves, and is used only when the upper part is full.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apis.meta.validation import IPAddress, IPNetwork

_BAND_MIN, _BAND_MAX, _BAND_STEP = 16, 256, 16
_MAX_OFFSET = 1 << 63


class AllocationError(Exception):
    """The address or port cannot be had; the text is upstream's."""


class RangeFull(AllocationError):
    """Nothing is free."""

    def __init__(self) -> None:
        super().__init__("range is full")


def static_band(size: int, largest: int, step: int) -> int:
    """How many of the first values are left to explicit requests."""
    if size <= _BAND_MIN:
        return 0
    return min(max(_BAND_MIN, size // step), largest)


class IPAllocator:
    """The taken addresses of ``cidr``; nothing is written anywhere."""

    def __init__(self, cidr: str, random: Random, *, taken: set[int] | None = None) -> None:
        """``taken``: shared with allocators of ranges that may overlap."""
        self.network: IPNetwork = ipaddress.ip_network(cidr, strict=False)
        self._random = random
        self._taken: set[int] = set() if taken is None else taken
        size = self.network.num_addresses
        # Not the network's own address, and for IPv4 not the broadcast address.
        self._first = int(self.network.network_address) + 1
        self._size = max(0, size - 2 if self.network.version == 4 else size - 1)
        if self.network.version == 6:
            self._size = min(self._size, (1 << 64) - 1)
        self._band = min(static_band(size, _BAND_MAX, _BAND_STEP), self._size)

    @property
    def family(self) -> str:
        return "IPv4" if self.network.version == 4 else "IPv6"

    def allocate(self, ip: IPAddress, *, dry_run: bool = False) -> None:
        """Takes ``ip``. :raises AllocationError: taken, or not in the range."""
        number = int(ip)
        if ip.version != self.network.version or not (
            self._first <= number < self._first + self._size
        ):
            raise AllocationError(
                f"the provided IP ({ip}) is not in the valid range. "
                f"The range of valid IPs is {self.network}"
            )
        if number in self._taken and not dry_run:  # nor does upstream's dry run look
            raise AllocationError("provided IP is already allocated")
        if not dry_run:
            self._taken.add(number)

    def allocate_next(self, *, dry_run: bool = False) -> str:
        """Takes a free address. :raises RangeFull: there is none."""
        if dry_run:
            return str(self.network.network_address)
        upper = self._size - self._band
        number = self._free(self._first + self._band, upper)
        if number is None:
            number = self._free(self._first, self._band)
        if number is None:
            raise RangeFull
        self._taken.add(number)
        return str(ipaddress.ip_address(number))

    def _free(self, start: int, size: int) -> int | None:
        if size <= 0:
            return None
        offset = self._random.randrange(min(size, _MAX_OFFSET))
        for step in range(min(size, len(self._taken) + 1)):
            number = start + (offset + step) % size
            if number not in self._taken:
                return number
        return None

    def release(self, ip: IPAddress) -> None:
        self._taken.discard(int(ip))

    def has(self, ip: IPAddress) -> bool:
        return int(ip) in self._taken

    @property
    def size(self) -> int:
        """Addresses that there are, taken or not."""
        return self._size

    @property
    def free(self) -> int:
        last = self._first + self._size
        return self._size - sum(self._first <= number < last for number in self._taken)

    def clear(self) -> None:
        self._taken.clear()
