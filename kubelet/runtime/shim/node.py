"""What all parts of one shim share: the machine's facts, directories, the loop, events."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.kubelet.network.pod_network import PodNetwork
    from pilothouse.kubelet.runtime.shim.cgroups import Cgroups
    from pilothouse.kubelet.runtime.shim.crun import Crun
    from pilothouse.kubelet.runtime.shim.loop import Loop
    from pilothouse.kubelet.runtime.shim.reaper import Reaper
    from pilothouse.kubelet.runtime.shim.spec import Machine

OPTIONS_FILE = "options.json"


class ShimError(Exception):
    """Told to the kubelet as ``kind`` (a name of runtime/errors.py)."""

    def __init__(self, kind: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason


@dataclass(slots=True)
class Node:
    state_dir: str
    cgroup_root: str
    machine: Machine
    cgroups: Cgroups
    crun: Crun
    reaper: Reaper
    loop: Loop
    emit: Callable[[dict[str, Any]], None]
    network: PodNetwork | None = None
    node_ip: str = ""
    nofile: int = 0
    mounts: int = -1
    """The mount namespace of the node itself (descriptor); -1: none."""

    def directory(self, kind: str, identity: str) -> str:
        return os.path.join(self.state_dir, kind, identity)

    def remember(self, option: str, value: str) -> None:
        """For the next shim of this directory."""
        path = f"{self.state_dir}/{OPTIONS_FILE}"
        try:
            with open(path, encoding="utf-8") as file:
                options = json.load(file)
        except (OSError, ValueError):
            options = {}
        save(path, {**options, option: value})

    def event(self, sandbox_id: str, pod_uid: str, container_id: str, kind: str) -> None:
        """To every connected kubelet; from any thread."""
        event = {
            "sandbox_id": sandbox_id,
            "pod_uid": pod_uid,
            "container_id": container_id,
            "type": kind,
        }
        self.loop.soon(lambda: self.emit(event))


def save(path: str, record: dict[str, Any]) -> None:
    """Whole or not at all. Not synced: after a crash of the machine no container lives anyway."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(record, file)
    os.replace(temporary, path)


def load_all(directory: str, name: str) -> list[dict[str, Any]]:
    """The record ``name`` of each entry of ``directory``; damaged ones are left out."""
    records = []
    for entry in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        try:
            with open(os.path.join(directory, entry, name), encoding="utf-8") as file:
                records.append(json.load(file))
        except (OSError, ValueError):
            continue
    return records


def start_ticks(pid: int) -> int:
    """When process ``pid`` started; 0 when it is gone or a zombie. Tells reused numbers apart."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
