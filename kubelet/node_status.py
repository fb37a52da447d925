"""The Node object: what this node is and has (pure makers; kubelet_node_status.go)."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from pilothouse.apimachinery.object import Obj, condition_of
from pilothouse.apimachinery.quantity import canonical
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.core.declared_features import DECLARED
from pilothouse.componentbase.version import GIT_VERSION
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.runtime.interfaces import Image, RuntimeInfo

MAX_IMAGES = 50
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the machine that this node runs on."""

    cpus: int
    memory_bytes: int
    disk_bytes: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str


def read_machine(path: str = "/") -> Machine:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = os.statvfs(path)
    machine = platform.machine()
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=pages,
        disk_bytes=disk.f_frsize * disk.f_blocks,
        architecture=ARCHITECTURES.get(machine, machine),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_read("/etc/machine-id"),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
    )


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def initial_node(config: KubeletConfig, machine: Machine) -> Obj:
    """The object to register; the status comes on top."""
    labels = {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
    } | config.node_labels
    spec: Obj = {}
    if config.pod_cidr:
        spec |= {"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]}
    if config.register_with_taints:
        spec["taints"] = [dict(taint) for taint in config.register_with_taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
    }


def node_status(
    node: Obj,
    config: KubeletConfig,
    machine: Machine,
    runtime: RuntimeInfo,
    images: list[Image],
    now: datetime,
    problem: str = "",
    devices: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    pressures: frozenset[str] = frozenset(),
) -> Obj:
    """The whole status; ``problem``: why the node is not ready, or ''. ``devices``: (capacity,
    allocatable) of the resources of device plugins. ``pressures``: conditions that hold."""
    capacity = {
        "cpu": config.cpu_capacity or str(machine.cpus),
        "memory": config.memory_capacity or f"{machine.memory_bytes // 1024}Ki",
        "ephemeral-storage": f"{machine.disk_bytes // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(config.max_pods),
    }
    # As the server stores them, else every heartbeat would look like a change.
    capacity = {name: canonical(value) for name, value in capacity.items()}
    old = node.get("status") or {}
    # Extended resources that somebody else has put there stay.
    extended = {k: v for k, v in (old.get("capacity") or {}).items() if "/" in k}
    capacity |= extended
    allocatable = capacity | {
        k: v for k, v in (old.get("allocatable") or {}).items() if k in extended
    }
    capacity |= {name: str(count) for name, (count, _) in devices.items()}
    allocatable |= {name: str(count) for name, (_, count) in devices.items()}
    return {
        "capacity": capacity,
        "allocatable": allocatable,
        "conditions": _conditions(node, now, problem, pressures),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": f"{runtime.name}://{runtime.version}",
            "kubeletVersion": GIT_VERSION,
            "kubeProxyVersion": GIT_VERSION,
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
        **_abilities(runtime),
        "declaredFeatures": list(DECLARED),
        "images": [
            {"names": [*image.repo_digests, *image.repo_tags], "sizeBytes": image.size}
            for image in sorted(images, key=lambda i: -i.size)[:MAX_IMAGES]
        ],
    }


def _abilities(runtime: RuntimeInfo) -> Obj:
    policy = {"supplementalGroupsPolicy": _runs_as_users(runtime)}
    return {"features": policy, "runtimeHandlers": _handlers(runtime)}


def _handlers(runtime: RuntimeInfo) -> list[Obj]:
    """What the default handler can do; runtimes that pretend tell of none."""
    if not runtime.capabilities.real_processes:
        return []
    users = runtime.capabilities.user_namespaces
    return [{"name": "", "features": {"recursiveReadOnlyMounts": False, "userNamespaces": users}}]


def _runs_as_users(runtime: RuntimeInfo) -> bool:
    """Whether containers run as users and groups of their image."""
    able = runtime.capabilities
    return able.real_processes and able.user_ids and able.image_filesystem


_CONDITIONS = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


_PRESSURES = {
    "MemoryPressure": (
        "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"
    ),
    "DiskPressure": ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    "PIDPressure": ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
}  # fmt: skip


def _conditions(node: Obj, now: datetime, problem: str, pressures: frozenset[str]) -> list[Obj]:
    wanted = [
        (type_, "True", *_PRESSURES[type_])
        if type_ in pressures
        else (type_, "False", reason, message)
        for type_, reason, message in _CONDITIONS
    ]
    if problem:
        wanted.append(("Ready", "False", "KubeletNotReady", problem))
    else:
        wanted.append(("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    stamp = format_time(now)
    result = []
    for type_, status, reason, message in wanted:
        old = condition_of(node, type_) or {}
        same = old.get("status") == status
        result.append(
            {
                "type": type_,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": stamp,
                "lastTransitionTime": old.get("lastTransitionTime") if same else stamp,
            }
        )
    return result


def differs(old: Obj, new: Obj) -> bool:
    """Whether a status is worth reporting before its time: anything but heartbeats changed."""

    def essence(status: Obj) -> Obj:
        conditions = [
            {k: v for k, v in c.items() if k != "lastHeartbeatTime"}
            for c in status.get("conditions") or ()
            if c["type"] in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        others = {k: status.get(k) or None for k in new if k != "conditions"}  # [] is not stored
        return others | {"conditions": conditions}

    return essence(old) != essence(new)
