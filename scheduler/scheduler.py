"""The scheduler: pops a pod, decides where it goes, assumes it there and binds it in a task.

One loop runs scheduling cycles one after the other (decisions are serial, so each sees the one
before); bindings run concurrently. The loop sleeps until an informer event or a back-off's end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from pilothouse.apimachinery.clock import TimerHandle
from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, condition_of
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubeclient.resources import NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, PODS
from pilothouse.scheduler.cache.cache import SchedulerCache
from pilothouse.scheduler.config import SchedulerConfig
from pilothouse.scheduler.event_handlers import EventHandlers
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Framework
from pilothouse.scheduler.plugins.default_preemption import DefaultPreemption, PreemptionHandle
from pilothouse.scheduler.plugins.order import SCORE_WEIGHTS, default_plugins
from pilothouse.scheduler.queueing.nominator import Nominator
from pilothouse.scheduler.queueing.scheduling_queue import QueuedPod, SchedulingQueue
from pilothouse.scheduler.schedule_one import Decision, SchedulingAlgorithm

log = logging.getLogger(__name__)
NOTE_LENGTH = 1024
CYCLES_PER_TURN = 16
"""After so many cycles the loop lets others run."""


class Scheduler:
    """Implements ``kubeclient.interfaces.Component``."""

    name = "scheduler"

    def __init__(self, env: Environment, config: SchedulerConfig | None = None) -> None:
        self.config = config or SchedulerConfig()
        self._env = env
        self._client = env.client
        self._clock = env.clock
        self._activity = env.activity
        self.recorder = EventRecorder(
            env.client,
            self.config.scheduler_name,
            clock=env.clock,
            random=env.random,
            activity=env.activity,
        )
        preemption = DefaultPreemption()
        plugins = default_plugins(env.client, self._namespace_labels)
        self.framework = Framework([*plugins, preemption], SCORE_WEIGHTS)
        self.cache = SchedulerCache()
        self.nominator = Nominator()
        self.queue = SchedulingQueue(self.framework.may_help, self.framework.gate)
        self.algorithm = SchedulingAlgorithm(
            self.framework, env.random, self.nominator, self.config.percentage_of_nodes_to_score
        )
        self._pods = env.informers.informer(PODS)
        self._nodes = env.informers.informer(NODES)
        self._budgets = env.informers.informer(POD_DISRUPTION_BUDGETS)
        self._namespaces = env.informers.informer(NAMESPACES)
        preemption.handle = PreemptionHandle(
            env.client,
            self.recorder,
            env.clock,
            env.random,
            self.nominator,
            self.framework,
            self.algorithm.passes,
            self.cache.nodes,
            self._budgets.list,
        )
        self._tasks = TaskOwner("scheduler", self._crashed)
        self._bindings = asyncio.Semaphore(self.config.parallel_bindings)
        self._work = asyncio.Event()
        self._timer: TimerHandle | None = None
        self._crash = ""

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        handlers = EventHandlers(
            self.queue,
            self.cache,
            self.nominator,
            scheduler_name=self.config.scheduler_name,
            clock=self._clock,
            wake=self._wake,
        )
        handlers.attach(self._pods, self._nodes)
        self._activity.add_probe("scheduler", lambda: self.queue.has_active)
        self._env.informers.start()
        await self._env.informers.wait_synced(
            (self._pods, self._nodes, self._budgets, self._namespaces)
        )
        self._tasks.start(self._run(), "loop")

    async def stop(self) -> None:
        self._activity.remove_probe("scheduler")
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        await self.recorder.close()

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        namespace = self._namespaces.get(name)
        return {} if namespace is None else namespace["metadata"].get("labels") or {}

    def health(self) -> str | None:
        return self._crash or None

    def _crashed(self, task: str, error: BaseException) -> None:
        self._crash = f"{task}: {error!r}"

    # -- the loop ------------------------------------------------------------------------

    def _wake(self) -> None:
        if self.queue.has_active:
            self._work.set()
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        """Wakes the loop when the next back-off ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self.queue.next_wake()
        if wake_at is not None:
            delay = max(wake_at - self._clock.monotonic(), 0.0)
            self._timer = self._clock.call_later(delay, self._work.set)

    async def _run(self) -> None:
        while True:
            self._work.clear()
            self.queue.flush(self._clock.monotonic())
            cycles = 0
            while (queued := self.queue.pop()) is not None:
                await self._schedule(queued)
                cycles += 1
                if cycles % CYCLES_PER_TURN == 0:
                    await asyncio.sleep(0)
            self._set_timer()
            await self._work.wait()

    async def _schedule(self, queued: QueuedPod) -> None:
        with self._activity.work("scheduling"):
            try:
                await self._cycle(queued)
            except Exception as error:  # one pod's trouble must not stop the others
                log.exception("scheduling %s failed", queued.pod.key)
                await self._failed(queued, frozenset(), "SchedulerError", str(error))

    async def _cycle(self, queued: QueuedPod) -> None:
        pod = queued.pod
        if pod.deleting:
            self.recorder.event(
                pod.obj,
                "Warning",
                "FailedScheduling",
                f"skip schedule deleting pod: {pod.key}",
            )
            self.queue.done(pod.uid)
            return
        if self.cache.is_assumed(pod.uid):
            self.queue.done(pod.uid)
            return
        decision = self.algorithm.schedule(pod, self.cache.nodes())
        if decision.node:
            self.cache.assume(pod, decision.node)
            self.nominator.remove(pod.uid)
            await self._bindings.acquire()
            self._activity.begin("binding")
            self._tasks.start(self._bind(queued, decision.node), f"bind {pod.key}")
        else:
            await self._did_not_fit(queued, decision)

    # -- binding -------------------------------------------------------------------------

    async def _bind(self, queued: QueuedPod, node: str) -> None:
        pod = queued.pod
        try:
            await self.framework.binder.bind(pod, node)
        except (StatusError, OSError) as error:
            self.cache.forget(pod)
            if is_not_found(error):
                self.queue.done(pod.uid)
            else:
                reason = f'binding rejected: running Bind plugin "DefaultBinder": {error}'
                await self._failed(queued, frozenset(), "SchedulerError", reason)
        else:
            self.queue.done(pod.uid)
            self.recorder.event(
                pod.obj, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}"
            )
        finally:
            self._bindings.release()
            self._activity.end("binding")

    # -- failure -------------------------------------------------------------------------

    async def _did_not_fit(self, queued: QueuedPod, decision: Decision) -> None:
        diagnosis = decision.diagnosis
        nominated = ""
        if diagnosis.all_nodes:
            for plugin in self.framework.post_filters:
                nominated, message = await plugin.post_filter(
                    decision.state, queued.pod, diagnosis.statuses
                )
                diagnosis.post_filter_message = message
                if nominated:
                    break
            message = diagnosis.message()
        else:
            message = "no nodes available to schedule pods"
        plugins = frozenset(diagnosis.plugins - {""})
        if nominated:
            self.nominator.set(queued.pod, nominated)
            plugins |= {"DefaultPreemption"}
        await self._failed(queued, plugins, "Unschedulable", message, nominated)

    async def _failed(
        self,
        queued: QueuedPod,
        plugins: frozenset[str],
        reason: str,
        message: str,
        nominated: str = "",
    ) -> None:
        """Parks the pod, tells the user, and sets PodScheduled=False."""
        pod = queued.pod
        if self._pods.get(pod.key) is None:
            self.queue.done(pod.uid)
            return
        # No node at all: only a new node can help, whatever plugin would have refused.
        self.queue.park(queued, plugins or _any_plugin(reason), self._clock.monotonic())
        self._wake()
        note = message if len(message) <= NOTE_LENGTH else f"{message[: NOTE_LENGTH - 4]} ..."
        self.recorder.event(pod.obj, "Warning", "FailedScheduling", note)
        await self._write_failure(pod, reason, message, nominated)

    async def _write_failure(self, pod: PodInfo, reason: str, message: str, nominated: str) -> None:
        status = failure_status(pod.obj, reason, message, nominated, self._now())
        if status is None:
            return
        try:
            await self._client.patch(
                PODS,
                pod.name,
                {"status": status},
                "application/strategic-merge-patch+json",
                pod.namespace,
                subresource="status",
                field_manager="kube-scheduler",
            )
        except StatusError as error:
            if not is_not_found(error):
                log.warning("could not write the condition of %s: %s", pod.key, error)

    def _now(self) -> str:
        return format_time(self._clock.now())


def _any_plugin(reason: str) -> frozenset[str]:
    """What refused a pod that no plugin refused: for lack of nodes, whoever waits for nodes."""
    return frozenset(("NodeName",)) if reason == "Unschedulable" else frozenset()


def failure_status(
    pod: Obj, reason: str, message: str, nominated: str, now: str
) -> dict[str, Any] | None:
    """The status patch for a pod that was not scheduled; None when it would change nothing."""
    condition: dict[str, Any] = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
    }
    generation = pod["metadata"].get("generation")
    if generation:
        condition["observedGeneration"] = generation
    old = condition_of(pod, "PodScheduled") or {}
    status: dict[str, Any] = {}
    if any(old.get(key) != value for key, value in condition.items()):
        unchanged = old.get("status") == "False" and old.get("lastTransitionTime")
        condition["lastTransitionTime"] = unchanged or now
        condition["lastProbeTime"] = None
        status["conditions"] = [condition]
    if nominated and (pod.get("status") or {}).get("nominatedNodeName") != nominated:
        status["nominatedNodeName"] = nominated
    return status or None
