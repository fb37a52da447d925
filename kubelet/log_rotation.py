"""Container logs that grow too large are rotated (pkg/kubelet/logs/container_log_manager.go).

``0.log`` becomes ``0.log.<time>``; older ones are compressed, the oldest deleted. What is written
meanwhile is not lost: the file is renamed before the runtime opens a new one.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import RuntimeService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Of one container; ``max_size`` 0: logs may grow."""

    max_size: int = 10 << 20
    max_files: int = 5


class LogRotation:
    def __init__(
        self, runtime: RuntimeService, cache: PodCache, clock: Clock, limits: LogLimits
    ) -> None:
        self._runtime = runtime
        self._cache = cache
        self._clock = clock
        self._limits = limits

    async def look(self) -> None:
        """Rotates what is too large."""
        if not self._limits.max_size:
            return
        running = [
            (status.id, status.log_path)
            for uid in self._cache.uids()
            for status in self._cache.get(uid).running
            if status.log_path
        ]
        for container_id, path in await asyncio.to_thread(self._large, running):
            try:
                await self._rotate(container_id, path)
            except (OSError, RuntimeFailure) as error:
                log.warning("log of container %s was not rotated: %s", container_id, error)

    def _large(self, running: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(id_, path) for id_, path in running if _size(path) >= self._limits.max_size]

    async def _rotate(self, container_id: str, path: str) -> None:
        await asyncio.to_thread(make_room, path, self._limits.max_files)
        rotated = f"{path}.{self._clock.now().strftime('%Y%m%d-%H%M%S')}"
        await asyncio.to_thread(os.rename, path, rotated)
        try:
            await self._runtime.reopen_container_log(container_id)
        except RuntimeFailure:
            await asyncio.to_thread(os.rename, rotated, path)
            raise


def make_room(path: str, max_files: int) -> None:
    """Before a rotation: at most ``max_files`` with the log itself and its next rotation."""
    directory, name = os.path.split(path)
    rotated = sorted(
        os.path.join(directory, entry)
        for entry in os.listdir(directory)
        if entry.startswith(f"{name}.")
    )
    for unfinished in [file for file in rotated if file.endswith(".tmp")]:
        rotated.remove(unfinished)
        os.unlink(unfinished)
    while rotated and len(rotated) > max_files - 2:
        os.unlink(rotated.pop(0))
    for file in rotated:
        if not file.endswith(".gz"):
            _compress(file)


def _compress(path: str) -> None:
    temporary = f"{path}.gz.tmp"
    with open(path, "rb") as source, gzip.open(temporary, "wb") as target:
        shutil.copyfileobj(source, target)
    os.replace(temporary, f"{path}.gz")
    os.unlink(path)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
