"""Node ports of Services: a range of numbers, the lower band left to explicit requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.registry.core.ip_allocator import (
    AllocationError,
    RangeFull,
    static_band,
)

if TYPE_CHECKING:
    from random import Random

_BAND_MAX, _BAND_STEP = 128, 32
_DRY_RUN_PORT = 32768


class PortAllocator:
    def __init__(self, first: int, last: int, random: Random) -> None:
        """Ports ``first`` to ``last``, both included."""
        self.first, self.last = first, last
        self._random = random
        self._taken: set[int] = set()
        self._band = static_band(last - first + 1, _BAND_MAX, _BAND_STEP)

    def check(self, port: int) -> None:
        """:raises AllocationError: taken, or not in the range."""
        if not self.first <= port <= self.last:
            raise AllocationError(
                "provided port is not in the valid range. "
                f"The range of valid ports is {self.first}-{self.last}"
            )
        if port in self._taken:
            raise AllocationError("provided port is already allocated")

    def next_free(self) -> int:
        """:raises RangeFull: there is none."""
        for start, end in (
            (self.first + self._band, self.last + 1),
            (self.first, self.first + self._band),
        ):
            size = end - start
            if size <= 0:
                continue
            offset = self._random.randrange(size)
            for step in range(min(size, len(self._taken) + 1)):
                port = start + (offset + step) % size
                if port not in self._taken:
                    return port
        raise RangeFull

    def take(self, port: int) -> None:
        self._taken.add(port)

    def release(self, port: int) -> None:
        self._taken.discard(port)

    def has(self, port: int) -> bool:
        return port in self._taken

    @property
    def taken(self) -> int:
        return len(self._taken)

    @property
    def free(self) -> int:
        return self.last - self.first + 1 - len(self._taken)

    def clear(self) -> None:
        self._taken.clear()


class PortOperation:
    """The ports that one write takes and gives back, undone as a whole (portallocator.Operation).

    Ports are taken at once, so that two writes never get the same one, and given back when the
    write is known to have succeeded (:meth:`commit`) or failed (:meth:`revert`).
    """

    def __init__(self, ports: PortAllocator, *, dry_run: bool) -> None:
        self._ports = ports
        self._dry_run = dry_run
        self._allocated: list[int] = []
        self._to_release: list[int] = []

    def allocate(self, port: int) -> None:
        if self._dry_run and port in self._allocated:
            raise AllocationError("provided port is already allocated")
        if not self._dry_run:  # upstream's dry run allows any port, too
            self._ports.check(port)
            self._ports.take(port)
        self._allocated.append(port)

    def allocate_next(self) -> int:
        if self._dry_run:
            port = max([*self._allocated, _DRY_RUN_PORT - 1]) + 1
            self._allocated.append(port)
            return port
        port = self._ports.next_free()
        self._ports.take(port)
        self._allocated.append(port)
        return port

    def release_deferred(self, port: int) -> None:
        self._to_release.append(port)

    def commit(self) -> None:
        if not self._dry_run:
            for port in self._to_release:
                self._ports.release(port)

    def revert(self) -> None:
        if not self._dry_run:
            for port in self._allocated:
                self._ports.release(port)
