"""Leases for keys with a ttl (apiserver pkg/storage/etcd3/lease_manager.go).

Granting is a write through raft, so keys with nearly the same end share a lease: it is a little
longer than asked for and taken again while that still fits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apiserver.storage.etcd3 import messages as pb

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.etcd3.client import EtcdClient

_REUSE_SECONDS = 60
_REUSE_FRACTION = 0.05
_MAX_OBJECTS = 1000


class LeaseManager:
    """Hands out lease ids."""

    def __init__(self, client: EtcdClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._lock = asyncio.Lock()
        self._lease = 0
        self._ends = 0.0
        self._objects = 0

    async def lease_for(self, ttl: int) -> int:
        """A lease that ends no sooner than in ``ttl`` seconds, and not much later."""
        async with self._lock:
            now = self._clock.monotonic()
            reuse = min(_REUSE_SECONDS, int(_REUSE_FRACTION * ttl))
            self._objects += 1
            fits = now + ttl < self._ends < now + ttl + reuse
            if fits and self._objects <= _MAX_OBJECTS:
                return self._lease
            # A grant whose answer got lost leaves an empty lease behind, which just ends.
            answer = await self._client.read("lease_grant", pb.LeaseGrantRequest(TTL=ttl + reuse))
            self._lease = int(answer.ID)
            self._ends = now + ttl + reuse
            self._objects = 1
            return self._lease
