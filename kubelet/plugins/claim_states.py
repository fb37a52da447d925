"""What the kubelet knows of prepared ResourceClaims, on disk so that the next kubelet knows it.

The file is upstream's ``dra_manager_state``: a JSON text and its CRC-32.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested, name_of, namespace_of, uid_of

FILE = "dra_manager_state"


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    pool: str
    name: str
    share: str = ""
    requests: tuple[str, ...] = ()
    cdi: tuple[str, ...] = ()

    def serves(self, request: str) -> bool:
        """``request`` may be empty: any."""
        return not request or not self.requests or request in self.requests


@dataclass(slots=True)
class ClaimState:
    uid: str
    name: str
    namespace: str
    pods: set[str] = field(default_factory=set)
    """Uids."""
    drivers: dict[str, list[PreparedDevice]] = field(default_factory=dict)
    prepared: bool = False
    """Not on disk: a new kubelet prepares anew, which drivers must bear."""
    unpreparing: bool = False

    @property
    def reference(self) -> Obj:
        return {"namespace": self.namespace, "uid": self.uid, "name": self.name}

    @classmethod
    def of(cls, claim: Obj) -> ClaimState:
        results = get_nested(claim, "status", "allocation", "devices", "results", default=())
        state = cls(uid_of(claim), name_of(claim), namespace_of(claim))
        state.drivers = {result["driver"]: [] for result in results}
        return state


class ClaimStates:
    """All of one node."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE)
        self._claims: dict[tuple[str, str], ClaimState] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def get(self, namespace: str, name: str) -> ClaimState | None:
        return self._claims.get((namespace, name))

    def add(self, state: ClaimState) -> None:
        self._claims[state.namespace, state.name] = state

    def remove(self, state: ClaimState) -> None:
        self._claims.pop((state.namespace, state.name), None)

    def of_pod(self, uid: str) -> list[ClaimState]:
        return [state for state in self._claims.values() if uid in state.pods]

    def all(self) -> list[ClaimState]:
        return list(self._claims.values())

    def save(self) -> None:
        """:raises OSError:"""
        content = {
            "kind": "DRACheckpoint",
            "apiVersion": "checkpoint.dra.kubelet.k8s.io/v1",
            "ClaimInfoStateList": [_to_json(state) for state in self._claims.values()],
        }
        data = json.dumps(content, separators=(",", ":"))
        text = json.dumps({"Data": data, "Checksum": zlib.crc32(data.encode())})
        temporary = f"{self._path}.tmp"
        with open(temporary, "w") as file:
            file.write(text)
        os.replace(temporary, self._path)

    def load(self) -> None:
        """:raises ValueError: the file is damaged."""
        try:
            with open(self._path) as file:
                outer = json.load(file)
        except FileNotFoundError:
            return
        if zlib.crc32(outer["Data"].encode()) != outer["Checksum"]:
            raise ValueError(f"{self._path}: checkpoint is corrupted")
        for raw in json.loads(outer["Data"]).get("ClaimInfoStateList") or ():
            self.add(_from_json(raw))


def _to_json(state: ClaimState) -> dict[str, Any]:
    return {
        "ClaimUID": state.uid,
        "ClaimName": state.name,
        "Namespace": state.namespace,
        "PodUIDs": {uid: {} for uid in sorted(state.pods)},
        "DriverState": {
            driver: {"Devices": [_device_to_json(d) for d in devices]}
            for driver, devices in state.drivers.items()
        },
    }


def _device_to_json(device: PreparedDevice) -> dict[str, Any]:
    return {
        "PoolName": device.pool,
        "DeviceName": device.name,
        "ShareID": device.share or None,
        "RequestNames": list(device.requests),
        "CDIDeviceIDs": list(device.cdi),
    }


def _from_json(raw: dict[str, Any]) -> ClaimState:
    state = ClaimState(raw["ClaimUID"], raw["ClaimName"], raw["Namespace"])
    state.pods = set(raw.get("PodUIDs") or ())
    for driver, content in (raw.get("DriverState") or {}).items():
        state.drivers[driver] = [
            PreparedDevice(
                d["PoolName"], d["DeviceName"], d.get("ShareID") or "",
                tuple(d.get("RequestNames") or ()), tuple(d.get("CDIDeviceIDs") or ()),
            )
            for d in content.get("Devices") or ()
        ]  # fmt: skip
    return state


def prepared_devices(raw: Iterable[dict[str, Any]]) -> list[PreparedDevice]:
    """From a driver's answer."""
    return [
        PreparedDevice(
            d["pool_name"], d["device_name"], d["share_id"], tuple(d["request_names"]),
            tuple(d["cdi_device_ids"]),
        )
        for d in raw
    ]  # fmt: skip
