"""Which devices of device plugins a node has, which are healthy, and who has them. Pure but for the
file that lets the next kubelet know (upstream's ``kubelet_internal_checkpoint``)."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FILE = "kubelet_internal_checkpoint"
HEALTHY = "Healthy"
Owner = tuple[str, str]
"""(pod uid, container)"""


class NoDevices(Exception):
    """They can't be had; the text says why."""


@dataclass(slots=True)
class Held:
    """What one container has of one resource."""

    devices: list[str]
    answer: dict[str, Any] = field(default_factory=dict)
    """The plugin's (ContainerAllocateResponse)."""


class DeviceBook:
    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE)
        self.health: dict[str, dict[str, str]] = {}
        """By resource and device."""
        self._held: dict[Owner, dict[str, Held]] = {}

    # -- what there is -------------------------------------------------------------------

    def set_devices(self, resource: str, health: dict[str, str]) -> None:
        self.health[resource] = health

    def lose(self, resource: str) -> None:
        """The plugin is gone: nothing of it can be given out."""
        known = self.health.get(resource, {})
        self.health[resource] = dict.fromkeys(known, "Unhealthy")

    def forget(self, resource: str) -> None:
        self.health.pop(resource, None)

    def counts(self) -> dict[str, tuple[int, int]]:
        """(capacity, allocatable) by resource."""
        return {
            resource: (len(health), sum(h == HEALTHY for h in health.values()))
            for resource, health in self.health.items()
        }

    # -- who has what --------------------------------------------------------------------

    def of(self, owner: Owner) -> dict[str, Held]:
        return self._held.get(owner, {})

    def owners(self, resource: str, device: str) -> set[str]:
        """Uids of pods."""
        return {
            uid
            for (uid, _), held in self._held.items()
            if resource in held and device in held[resource].devices
        }

    def pods(self) -> set[str]:
        return {uid for uid, _ in self._held}

    def free(self, resource: str) -> list[str]:
        used = {d for held in self._held.values() if resource in held
                for d in held[resource].devices}  # fmt: skip
        healthy = (d for d, health in self.health[resource].items() if health == HEALTHY)
        return sorted(d for d in healthy if d not in used)

    def choose(self, resource: str, count: int, reusable: Iterable[str]) -> list[str]:
        """Devices for a container, those of the pod's init containers first.

        :raises NoDevices:
        """
        if HEALTHY not in self.health[resource].values():
            raise NoDevices(
                f"no healthy devices present; cannot allocate unhealthy devices {resource}"
            )
        chosen = sorted(reusable)[:count]
        missing = count - len(chosen)
        free = self.free(resource)
        if missing > len(free):
            raise NoDevices(
                f"requested number of devices unavailable for {resource}. Requested: {missing}, "
                f"Available: {len(free)}"
            )
        return chosen + free[:missing]

    def hold(self, owner: Owner, resource: str, held: Held) -> None:
        self._held.setdefault(owner, {})[resource] = held

    def release(self, uid: str) -> bool:
        """Whether the pod had anything."""
        gone = [owner for owner in self._held if owner[0] == uid]
        for owner in gone:
            del self._held[owner]
        return bool(gone)

    # -- on disk -------------------------------------------------------------------------

    def save(self) -> None:
        """:raises OSError:"""
        entries = [
            {"PodUID": uid, "ContainerName": container, "ResourceName": resource,
             "DeviceIDs": {"-1": held.devices}, "AllocResp": held.answer}
            for (uid, container), resources in self._held.items()
            for resource, held in resources.items()
        ]  # fmt: skip
        data = {
            "PodDeviceEntries": entries,
            "RegisteredDevices": {r: sorted(h) for r, h in self.health.items()},
        }
        text = json.dumps({"Data": data, "Checksum": _checksum(data)})
        with open(f"{self._path}.tmp", "w") as file:
            file.write(text)
        os.replace(f"{self._path}.tmp", self._path)

    def load(self) -> None:
        """:raises ValueError: the file is damaged."""
        try:
            with open(self._path) as file:
                content = json.load(file)
        except FileNotFoundError:
            return
        data = content["Data"]
        if content["Checksum"] != _checksum(data):
            raise ValueError(f"{self._path}: checkpoint is corrupted")
        for entry in data["PodDeviceEntries"]:
            devices = [d for ids in entry["DeviceIDs"].values() for d in ids]
            owner = (entry["PodUID"], entry["ContainerName"])
            self.hold(owner, entry["ResourceName"], Held(devices, entry["AllocResp"]))
        for resource in data["RegisteredDevices"]:
            self.health[resource] = {}


def _checksum(data: Any) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode())
