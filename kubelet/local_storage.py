"""Pods that write more to the node's disk than they may (pkg/kubelet/eviction, local storage).

A look costs a walk through the pod's folders, so only pods with a limit are looked at, every
ten seconds. A pod over its limit is evicted: it fails with the reason ``Evicted``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.kubelet.interfaces import MountedVolume
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import RuntimeService

LOOK_SECONDS = 10.0
_BLOCK = 512


class LocalStorage:
    """Of one node; with containers that are no processes it finds nothing."""

    def __init__(self, runtime: RuntimeService, cache: PodCache) -> None:
        self._runtime = runtime
        self._cache = cache

    async def problem(self, pod: Obj, mounted: Mapping[str, MountedVolume]) -> str | None:
        """Why the pod must go, in upstream's words."""
        if not is_limited(pod) or not (await self._runtime.info()).capabilities.real_processes:
            return None
        volumes = {
            volume["name"]: mounted[volume["name"]].host_path
            for volume in pod["spec"].get("volumes") or ()
            if "emptyDir" in volume and volume["name"] in mounted
        }
        used = await asyncio.to_thread(
            lambda: {name: disk_usage(path) for name, path in volumes.items()}
        )
        return exceeded(pod, used, await self._of_containers(pod))

    async def _of_containers(self, pod: Obj) -> dict[str, int]:
        used: dict[str, int] = {}
        for status in self._cache.get(pod["metadata"]["uid"]).running:
            try:
                stats = await self._runtime.container_stats(status.id)
            except (RuntimeFailure, OSError):
                continue  # it has ended meanwhile
            used[status.name] = stats.rootfs_used_bytes + _size(status.log_path)
        return used


def exceeded(pod: Obj, volumes: Mapping[str, int], containers: Mapping[str, int]) -> str | None:
    """The first limit that is exceeded by what volumes and containers use (bytes by name)."""
    for name, limit in _volume_limits(pod):
        if volumes.get(name, 0) > limit.value():
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    limits = dict(_container_limits(pod))
    on_disk = sum(
        volumes.get(v["name"], 0)
        for v in pod["spec"].get("volumes") or ()
        if "emptyDir" in v and (v["emptyDir"] or {}).get("medium") in (None, "")
    )
    everything = on_disk + sum(containers.values())
    total = sum(limit.value() for limit in limits.values())
    if len(limits) == len(pod["spec"]["containers"]) and everything > total:
        text = str(Quantity.of(total)) if len(limits) > 1 else str(next(iter(limits.values())))
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
    for name, limit in limits.items():
        if containers.get(name, 0) > limit.value():
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return None


def is_limited(pod: Obj) -> bool:
    return any(_volume_limits(pod)) or any(_container_limits(pod))


def _volume_limits(pod: Obj) -> Iterator[tuple[str, Quantity]]:
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit is not None and Quantity.parse(limit).value() > 0:
            yield volume["name"], Quantity.parse(limit)


def _container_limits(pod: Obj) -> Iterator[tuple[str, Quantity]]:
    for container in pod["spec"].get("containers") or ():
        limits = (container.get("resources") or {}).get("limits") or {}
        if limits.get("ephemeral-storage") is not None:
            yield container["name"], Quantity.parse(limits["ephemeral-storage"])


def disk_usage(path: str) -> int:
    """Bytes that a folder takes on its disk; files that vanish meanwhile count as nothing."""
    used = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                used += os.lstat(os.path.join(folder, name)).st_blocks * _BLOCK
            except OSError:
                continue
    return used


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return 0
