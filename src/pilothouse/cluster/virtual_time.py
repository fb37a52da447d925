"""Moves a cluster's virtual clock from timer to timer; between two of them the cluster settles.

Flow: ``Cluster.advance`` → here → ``VirtualClock.step`` (what is due now runs) →
``ClusterCore.settle`` (all that follows from it) → the next moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from pilothouse.cluster.core import ClusterCore


async def advance(
    core: ClusterCore, seconds: float, *, heartbeats: bool = True, timeout: float = 60.0
) -> None:
    """See ``Cluster.advance``. Nothing of another thread may use the clock meanwhile.

    :raises TypeError: the cluster's clock is not a virtual one.
    :raises TimeoutError: a moment's work did not end within ``timeout`` real seconds.
    """
    clock = core.clock
    if not isinstance(clock, VirtualClock):
        raise TypeError('only a virtual clock can be advanced: use Cluster(clock="virtual")')
    await core.settle(timeout)
    target = clock.monotonic() + seconds
    while clock.step(target, heartbeats=heartbeats):
        await core.settle(timeout)
