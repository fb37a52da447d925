"""emptyDir with ``medium: Memory``: a tmpfs of its own for each volume, as large as it may be.

The runtime mounts it (``MemoryMounts``), because it knows where containers see the node's mounts;
runtimes without one leave such volumes to a folder of /dev/shm (``manager.py``).
"""

from __future__ import annotations

from typing import Protocol

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.kubelet.runtime.container_specs import pod_resources


class MemoryMounts(Protocol):
    async def mount_tmpfs(
        self, path: str, size: int = 0, mode: int = 0o777, group: int = 0
    ) -> None:
        """Idempotent."""
        ...

    async def show_mount(self, path: str) -> None:
        """What the kubelet has mounted at ``path`` is seen by containers, too."""
        ...

    async def unmount(self, path: str) -> None:
        """Missing is fine."""
        ...


def is_in_memory(volume: Obj) -> bool:
    return (volume.get("emptyDir") or {}).get("medium") == "Memory"


def size_of(pod: Obj, volume: Obj, node_memory: int) -> int:
    """The smallest of its limit, the pod's memory and the node's (calculateEmptyDirMemorySize)."""
    limit = (volume.get("emptyDir") or {}).get("sizeLimit")
    sizes = (
        Quantity.parse(limit).value() if limit is not None else 0,
        pod_resources(pod).memory_limit,
        node_memory,
    )
    return min((size for size in sizes if size), default=0)
