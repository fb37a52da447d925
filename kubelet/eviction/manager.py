"""Looks at the node every ten seconds, and evicts one pod at a time when it is short of something.

The decisions are pure (``thresholds.py``, ``ranking.py``); before a pod goes for disk space, unused
images and ended containers do.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.eviction.ranking import Usage, message, ranked
from pilothouse.kubelet.eviction.thresholds import RESOURCES, Observation, Pressure, Threshold
from pilothouse.kubelet.local_storage import disk_usage
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.pod_files import pod_directory
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import RuntimeService

log = logging.getLogger(__name__)
SOFT_GRACE_SECONDS = 0
"""evictionMaxPodGracePeriod."""


class Evictor(Protocol):
    """The kubelet, as the manager sees it."""

    def active_pods(self) -> list[Obj]: ...

    def evict(self, pod: Obj, text: str, grace_seconds: int) -> None: ...

    def pressure_changed(self) -> None: ...

    def short_of(self, resource: str) -> None:
        """For the node's event."""
        ...


class EvictionManager:
    def __init__(
        self,
        evictor: Evictor,
        runtime: RuntimeService,
        cache: PodCache,
        clock: Clock,
        pressure: Pressure,
        *,
        root_dir: str,
        reclaim_disk: Callable[[], Awaitable[int]],
        observe: Callable[[str], dict[str, Observation]] | None = None,
    ) -> None:
        """``reclaim_disk`` frees what nobody uses and tells how many bytes."""
        self._evictor = evictor
        self._runtime = runtime
        self._cache = cache
        self._clock = clock
        self._pressure = pressure
        self._root = root_dir
        self._reclaim_disk = reclaim_disk
        self._observe = observe or observe_node
        self._conditions: frozenset[str] = frozenset()

    @property
    def conditions(self) -> frozenset[str]:
        """The node's conditions that are true."""
        return self._conditions

    async def look(self) -> None:
        if not self._pressure.thresholds:
            return
        observed = await asyncio.to_thread(self._observe, self._root)
        now = self._clock.monotonic()
        due = self._pressure.look(observed, now)
        conditions = self._pressure.conditions(now)
        if conditions != self._conditions:
            self._conditions = conditions
            self._evictor.pressure_changed()
        if due:
            await self._relieve(due[0], observed)

    async def _relieve(self, threshold: Threshold, observed: Mapping[str, Observation]) -> None:
        resource = RESOURCES[threshold.signal]
        self._evictor.short_of(resource)
        if resource in ("ephemeral-storage", "inodes"):
            await self._reclaim_disk()
            after = await asyncio.to_thread(self._observe, self._root)
            if not self._pressure.look(after, self._clock.monotonic()):
                return
        pods = [p for p in self._evictor.active_pods() if self._has_started(p)]
        usage = {p["metadata"]["uid"]: await self._usage(p, resource) for p in pods}
        for pod in ranked(pods, usage, resource)[:1]:
            text = message(pod, usage[pod["metadata"]["uid"]], threshold, observed)
            log.info("evicting %s: %s", pod["metadata"]["name"], text)
            self._evictor.evict(pod, text, SOFT_GRACE_SECONDS)

    def _has_started(self, pod: Obj) -> bool:
        return bool(self._cache.get(pod["metadata"]["uid"]).containers)

    async def _usage(self, pod: Obj, resource: str) -> Usage:
        uid = pod["metadata"]["uid"]
        if resource == "pids":
            return Usage()
        used: dict[str, int] = {}
        for status in self._cache.get(uid).running:
            try:
                stats = await self._runtime.container_stats(status.id)
            except (RuntimeFailure, OSError):
                continue  # it has ended meanwhile
            memory = stats.memory_working_set_bytes
            used[status.name] = memory if resource == "memory" else stats.rootfs_used_bytes
        if resource == "memory":
            return Usage(used)
        volumes = await asyncio.to_thread(disk_usage, pod_directory(self._root, uid))
        return Usage(used, volumes)


def observe_node(root_dir: str) -> dict[str, Observation]:
    """Memory, the disk of the kubelet's files (images are on it, too), processes."""
    memory = _meminfo()
    disk = os.statvfs(root_dir)
    available = Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
    inodes = Observation(disk.f_ffree, disk.f_files)
    observed = {
        "memory.available": Observation(memory["MemAvailable"], memory["MemTotal"]),
        "nodefs.available": available,
        "imagefs.available": available,
        "pid.available": _processes(),
    }
    if disk.f_files:  # some filesystems don't count them
        observed |= {"nodefs.inodesFree": inodes, "imagefs.inodesFree": inodes}
    return observed


def _meminfo() -> dict[str, int]:
    with open("/proc/meminfo") as file:
        fields = (line.split() for line in file)
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) > 2}


def _processes() -> Observation:
    with open("/proc/sys/kernel/pid_max") as file:
        most = int(file.read())
    with open("/proc/loadavg") as file:
        now = int(file.read().split()[3].partition("/")[2])
    return Observation(most - now, most)
