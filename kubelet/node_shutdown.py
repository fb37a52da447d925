"""The end of a node: its pods end, the least important first, before the kubelet does
(pkg/kubelet/nodeshutdown).

Upstream learns of a shutdown from systemd; here it is the kubelet's own end (SIGTERM) when
``shutdownGracePeriod`` or ``shutdownGracePeriodByPodPriority`` is set. Until then nothing of this
costs anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.config_file import Periods
from pilothouse.kubelet.pod_worker_state import Phase

if TYPE_CHECKING:
    from pilothouse.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)
NOT_ADMITTED = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
TERMINATED = ("Terminated", "Pod was terminated in response to imminent node shutdown.")
NOT_READY = "node is shutting down"


def group_by_priority(periods: Periods, pods: Iterable[Obj]) -> list[tuple[int, list[Obj]]]:
    """(seconds, pods) in the order in which they end: a pod belongs to the last period that
    begins at or below its priority, or to the first (groupByPriority)."""
    groups: list[tuple[int, list[Obj]]] = [(seconds, []) for _, seconds in periods]
    for pod in pods:
        priority = int(pod["spec"].get("priority") or 0)
        fitting = [i for i, (start, _) in enumerate(periods) if start <= priority]
        groups[fitting[-1] if fitting else 0][1].append(pod)
    return groups


class NodeShutdown:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self.running = False

    async def run(self) -> None:
        """Returns when all pods have ended, or when their time is over."""
        kubelet = self._kubelet
        periods = kubelet.config.shutdown_periods
        if not periods or self.running:
            return
        self.running = True
        log.info("shutdown: pods of this node end")
        kubelet.admission.closed = NOT_ADMITTED
        kubelet.registration.status_changed()
        groups = group_by_priority(periods, kubelet.care.active_pods())
        for seconds, pods in groups:
            if pods:
                await self._end(pods, seconds)
        await kubelet.registration.report(force=True)

    async def _end(self, pods: list[Obj], seconds: int) -> None:
        workers, clock = self._kubelet.workers, self._kubelet.clock
        uids = [pod["metadata"]["uid"] for pod in pods]
        for pod, uid in zip(pods, uids, strict=True):
            own = pod["spec"].get("terminationGracePeriodSeconds")
            grace = seconds if own is None else min(int(own), seconds)
            workers.terminate(uid, TERMINATED, grace)
        ended = asyncio.get_running_loop().create_task(self._ended(uids), name="pods end")
        timer = clock.call_later(float(seconds), ended.cancel)
        try:
            await asyncio.wait((ended,))
        finally:
            timer.cancel()
            ended.cancel()
        if ended.cancelled():
            log.warning("shutdown: pods with %d s to end have not ended", seconds)
        await self._kubelet.statuses.flush()

    async def _ended(self, uids: list[str]) -> None:
        workers = self._kubelet.workers
        for uid in uids:
            state = workers.get(uid)
            while state is not None and state.phase is not Phase.TERMINATED:
                await workers.next_step(uid)
