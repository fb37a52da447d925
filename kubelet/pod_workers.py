"""Runs each pod's state machine: at most one task a pod, none while there is nothing to do.

Whatever happens to a pod (an update, a runtime event, a probe, the end of a back-off) marks it
dirty and kicks it; its task looks again until it is clean. Pods never wait for each other. A pod
that must end, or end sooner, does not wait for the step under way (an image pull, a long grace
period): that step is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from pilothouse.apimachinery.clock import Clock, TimerHandle, upkeep
from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubelet.pod_worker_state import Phase, PodWorkerState

log = logging.getLogger(__name__)
ERROR_RETRY_SECONDS = 2.0
"""After a sync that failed without a back-off of its own."""


class PodSyncer(Protocol):
    """``kubelet.py``: what is to be done in each phase."""

    async def sync_pod(self, state: PodWorkerState) -> float | None:
        """Seconds until the next look that time alone makes necessary; None: an event will tell."""
        ...

    async def sync_terminating_pod(self, state: PodWorkerState) -> None:
        """Returns when nothing of the pod runs."""
        ...

    async def sync_terminated_pod(self, state: PodWorkerState) -> None: ...


class PodWorkers:
    def __init__(
        self,
        syncer: PodSyncer,
        clock: Clock,
        activity: ActivityTracker,
        on_finished: Callable[[str], None],
    ) -> None:
        self._syncer = syncer
        self._clock = clock
        self._activity = activity
        self._on_finished = on_finished
        self._states: dict[str, PodWorkerState] = {}
        self._running: set[str] = set()
        self._steps: dict[str, asyncio.Task[float | None]] = {}
        self._timers: dict[str, TimerHandle] = {}
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks = TaskOwner("pod-workers")

    def get(self, uid: str) -> PodWorkerState | None:
        return self._states.get(uid)

    def states(self) -> list[PodWorkerState]:
        return list(self._states.values())

    async def next_step(self, uid: str) -> None:
        """Returns when the step under way of a pod (or its next one) is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.setdefault(uid, []).append(future)
        await future

    async def stop(self) -> None:
        """Leaves containers running."""
        for timer in self._timers.values():
            timer.cancel()
        await self._tasks.close()

    # -- what happens --------------------------------------------------------------------

    def update_pod(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        state = self._states.get(uid)
        if state is None:
            state = self._states[uid] = PodWorkerState(pod)
        before = state.urgency
        state.update(pod)
        self._interrupt(uid, before)
        self.kick(uid)

    def object_gone(self, uid: str) -> None:
        state = self._states.get(uid)
        if state is not None:
            before = state.urgency
            state.object_gone()
            self._interrupt(uid, before)
            self.kick(uid)

    def terminate(self, uid: str, failure: tuple[str, str] | None, grace: int | None) -> None:
        state = self._states.get(uid)
        if state is not None:
            before = state.urgency
            state.terminate(failure, grace)
            self._interrupt(uid, before)
            self.kick(uid)

    def _interrupt(self, uid: str, before: tuple[object, ...]) -> None:
        """Cancels the step under way when it is no longer what should be done."""
        state, step = self._states[uid], self._steps.get(uid)
        if step is not None and state.urgency != before and step is not asyncio.current_task():
            step.cancel()

    def kick(self, uid: str) -> None:
        """Look at the pod (again)."""
        state = self._states.get(uid)
        if state is None:
            return
        state.dirty = True
        if uid not in self._running:
            self._running.add(uid)
            self._activity.begin("pod worker")
            self._tasks.start(self._work(uid, state), uid)

    # -- the task ------------------------------------------------------------------------

    async def _work(self, uid: str, state: PodWorkerState) -> None:
        try:
            while state.dirty:
                state.dirty = False
                self._cancel_timer(uid)
                try:
                    wait = await self._run_step(uid, state)
                except Exception:  # one pod's trouble is its own
                    log.exception("sync of pod %s failed", state.pod["metadata"]["name"])
                    wait = ERROR_RETRY_SECONDS
                if wait is not None and not state.dirty:
                    clock = upkeep(self._clock) if state.only_refreshes else self._clock
                    self._timers[uid] = clock.call_later(wait, self.kick, uid)
        finally:
            self._running.discard(uid)
            self._activity.end("pod worker")
        if state.finished:
            self._cancel_timer(uid)
            del self._states[uid]
            self._on_finished(uid)

    async def _run_step(self, uid: str, state: PodWorkerState) -> float | None:
        """One step, in a task of its own so that it can be interrupted."""
        step = self._steps[uid] = self._tasks.start(self._step(state), f"{uid}/step")
        try:
            await asyncio.wait((step,))
        finally:
            del self._steps[uid]
            if not step.done():
                step.cancel()
            for watcher in self._watchers.pop(uid, ()):
                if not watcher.done():
                    watcher.set_result(None)
        return 0.0 if step.cancelled() else step.result()

    async def _step(self, state: PodWorkerState) -> float | None:
        if state.phase is Phase.SYNC:
            return await self._syncer.sync_pod(state)
        if state.phase is Phase.TERMINATING:
            await self._run_and_stop(self._syncer.sync_terminating_pod, state)
            return None
        await self._syncer.sync_terminated_pod(state)
        return None

    @staticmethod
    async def _run_and_stop(
        action: Callable[[PodWorkerState], Awaitable[None]], state: PodWorkerState
    ) -> None:
        await action(state)
        state.stopped()

    def _cancel_timer(self, uid: str) -> None:
        timer = self._timers.pop(uid, None)
        if timer is not None:
            timer.cancel()
