"""Addresses for the pods of one node, from its pod CIDR.

:class:`AddressPool` is the pure part: it hands addresses out in turn, so that one that was just
freed is not used again at once. :class:`FilePool` keeps the same facts in a file, so that a
restarted shim doesn't give one address to two pods.
"""

from __future__ import annotations

import json
import os
import threading
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class NoFreeAddress(Exception):
    """Every address of the pod CIDR is in use."""


class AddressPool:
    """Host addresses of ``cidr`` except the first, which is the gateway."""

    def __init__(self, cidr: str, taken: Mapping[str, str] | None = None, cursor: int = 0) -> None:
        self.network = IPv4Network(cidr)
        if self.network.num_addresses < 4:
            raise ValueError(f"pod CIDR {cidr} is too small: it needs at least 4 addresses")
        self._owners: dict[str, str] = dict(taken or {})
        self._by_owner = {owner: address for address, owner in self._owners.items()}
        self._size = self.network.num_addresses - 3  # network, gateway and broadcast
        self._cursor = cursor % self._size

    @property
    def gateway(self) -> str:
        return str(self.network.network_address + 1)

    @property
    def prefix_length(self) -> int:
        return self.network.prefixlen

    @property
    def taken(self) -> Mapping[str, str]:
        """Address -> owner."""
        return self._owners

    @property
    def cursor(self) -> int:
        return self._cursor

    def allocate(self, owner: str) -> str:
        """An address for ``owner``; the same one when it has one already.

        :raises NoFreeAddress: when all are in use.
        """
        if owner in self._by_owner:
            return self._by_owner[owner]
        first = int(self.network.network_address) + 2
        for step in range(self._size):
            index = (self._cursor + step) % self._size
            address = str(IPv4Address(first + index))
            if address not in self._owners:
                self._cursor = (index + 1) % self._size
                self._owners[address] = owner
                self._by_owner[owner] = address
                return address
        raise NoFreeAddress(f"no addresses available in range set: {self.network}")

    def release(self, owner: str) -> str | None:
        """Frees the address of ``owner``; None when it has none."""
        address = self._by_owner.pop(owner, None)
        if address is not None:
            del self._owners[address]
        return address

    def keep_only(self, owners: Iterable[str]) -> list[str]:
        """Frees what belongs to nobody in ``owners``; returns the freed addresses."""
        keep = set(owners)
        gone = [owner for owner in self._by_owner if owner not in keep]
        return [address for owner in gone if (address := self.release(owner)) is not None]


class FilePool:
    """An :class:`AddressPool` whose state survives the process.

    Safe across threads, not across processes.
    """

    def __init__(self, cidr: str, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.pool = AddressPool(cidr, *self._load(cidr))

    def _load(self, cidr: str) -> tuple[dict[str, str], int]:
        try:
            with open(self._path, encoding="utf-8") as file:
                state = json.load(file)
        except (FileNotFoundError, json.JSONDecodeError):
            return {}, 0
        if state.get("cidr") != cidr:
            return {}, 0
        return dict(state["taken"]), int(state["cursor"])

    def allocate(self, owner: str) -> str:
        with self._lock:
            address = self.pool.allocate(owner)
            self._save()
            return address

    def release(self, owner: str) -> None:
        with self._lock:
            if self.pool.release(owner) is not None:
                self._save()

    def keep_only(self, owners: Iterable[str]) -> None:
        with self._lock:
            if self.pool.keep_only(owners):
                self._save()

    def _save(self) -> None:
        state = {
            "cidr": str(self.pool.network),
            "cursor": self.pool.cursor,
            "taken": dict(self.pool.taken),
        }
        temporary = f"{self._path}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(temporary, self._path)
