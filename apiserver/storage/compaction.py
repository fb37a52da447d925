"""Drops old history every five minutes (kube-apiserver's ``--etcd-compaction-interval``).

A step compacts at the revision that was current one interval ago, so a client may come back with
a resourceVersion that is five minutes old. etcd has its own compactor, because several API
servers must agree (``etcd3/compact.py``); the embedded stores have one server each.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from pilothouse.apimachinery.clock import upkeep
from pilothouse.apiserver.storage.errors import StorageError

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.interfaces import Storage

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 300.0


class Compactor(Protocol):
    async def step(self) -> None:
        """Compacts what was current at the last step. :raises StorageError: try again later."""
        ...


class EmbeddedCompactor:
    """For a store that only this process uses."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._revision = 0

    async def step(self) -> None:
        previous, self._revision = self._revision, await self._storage.current_revision()
        if previous:
            await self._storage.compact(previous)


def compactor_for(storage: Storage) -> Compactor:
    """The store's own compactor if it has one (etcd), else the embedded one."""
    own: Compactor | None = getattr(storage, "compactor", None)
    return own if own is not None else EmbeddedCompactor(storage)


async def run_compaction(
    compactor: Compactor, clock: Clock, interval: float = INTERVAL_SECONDS
) -> None:
    """Never returns; run it in the server's TaskOwner. ``interval`` 0 turns compaction off."""
    while interval:
        await upkeep(clock).sleep(interval)
        try:
            await compactor.step()
        except StorageError as error:
            log.error("compaction failed: %s", error)
