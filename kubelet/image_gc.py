"""Images that nobody uses go when the disk fills up (pkg/kubelet/images/image_gc_manager.go).

Those that were not used for the longest go first; never what was made or imported here, because
no registry could give it back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock
from pilothouse.kubelet.eviction.thresholds import Observation
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import Image, ImageService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Percent of the disk in use; ``high`` 100: never."""

    high: int = 85
    low: int = 80
    min_age_seconds: float = 120.0


@dataclass(slots=True)
class _Seen:
    first: float
    last_used: float = 0.0


class ImageGarbage:
    def __init__(
        self,
        images: ImageService,
        cache: PodCache,
        clock: Clock,
        limits: ImageLimits,
        disk: Callable[[], Observation],
    ) -> None:
        self._images = images
        self._cache = cache
        self._clock = clock
        self._limits = limits
        self._disk = disk
        self._seen: dict[str, _Seen] = {}

    async def look(self) -> None:
        """Frees disk space when more than ``high`` percent are in use."""
        if self._limits.high >= 100:
            return
        wanted = to_free(self._disk(), self._limits)
        unused = await self._unused()
        if wanted > 0:
            freed = await self._remove(unused, wanted)
            if freed < wanted:
                log.warning("image garbage collection freed %d of %d bytes", freed, wanted)

    async def remove_unused(self) -> int:
        """All of them, whatever the disk; the bytes that were freed."""
        return await self._remove(await self._unused(), None)

    async def _unused(self) -> list[Image]:
        """The ones that were not used for the longest first."""
        now = self._clock.monotonic()
        images = await self._images.list_images()
        used = set(self._used())
        self._seen = {image.id: self._seen.get(image.id) or _Seen(now) for image in images}
        for image in images:
            if image.id in used:
                self._seen[image.id].last_used = now
        free = [image for image in images if image.id not in used and not image.pinned]
        return sorted(free, key=lambda i: (self._seen[i.id].last_used, self._seen[i.id].first))

    def _used(self) -> Iterable[str]:
        for uid in self._cache.uids():
            for history in self._cache.get(uid).containers.values():
                yield from (status.image_id for status in history)

    async def _remove(self, images: list[Image], wanted: int | None) -> int:
        now = self._clock.monotonic()
        freed = 0
        for image in images:
            if wanted is not None:
                if freed >= wanted:
                    break
                if now - self._seen[image.id].first < self._limits.min_age_seconds:
                    continue
            try:
                await self._images.remove_image(image.id)
            except (RuntimeFailure, OSError) as error:
                log.warning("image %s was not removed: %s", image.id, error)
                continue
            freed += image.size
        return freed


def to_free(disk: Observation, limits: ImageLimits) -> int:
    """Bytes, so that ``low`` percent are left in use; 0 when no more than ``high`` are."""
    if not disk.capacity:
        return 0
    in_use = 100 - disk.available * 100 // disk.capacity
    if in_use < limits.high:
        return 0
    return disk.capacity * (100 - limits.low) // 100 - disk.available
