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
from pilothouse.kubeclient.record_v1 import SeriesRecorder
from pilothouse.kubeclient.resources import (
    KIND_OF,
    NAMESPACES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
)
from pilothouse.scheduler.cache.cache import SchedulerCache
from pilothouse.scheduler.config import SchedulerConfig
from pilothouse.scheduler.event_handlers import EventHandlers
from pilothouse.scheduler.extender import Extender, ExtenderError
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.interfaces import Code, CycleState, PluginFailure, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Framework
from pilothouse.scheduler.frameworks import Frameworks
from pilothouse.scheduler.metrics import SchedulerMetrics
from pilothouse.scheduler.plugins.default_preemption import DefaultPreemption, PreemptionHandle
from pilothouse.scheduler.pod_status_writing import patch_status
from pilothouse.scheduler.queueing.nominator import Nominator
from pilothouse.scheduler.queueing.scheduling_queue import QueuedPod, SchedulingQueue
from pilothouse.scheduler.schedule_one import Decision, SchedulingAlgorithm

log = logging.getLogger(__name__)
CYCLES_PER_TURN = 16
_STATUSES = {
    Code.UNSCHEDULABLE: "Unschedulable",
    Code.UNRESOLVABLE: "UnschedulableAndUnresolvable",
    Code.SKIP: "Skip",
}
"""After so many cycles the loop lets others run."""


class Scheduler:
    """Implements ``kubeclient.interfaces.Component``."""

    name = "scheduler"

    def __init__(self, env: Environment, config: SchedulerConfig | None = None) -> None:
        """:raises ValueError: the configuration cannot work."""
        self.config = config or SchedulerConfig()
        self._env = env
        self._client = env.client
        self._clock = env.clock
        self._activity = env.activity
        self.cache = SchedulerCache()
        self.nominator = Nominator()
        self._pods = env.informers.informer(PODS)
        self._nodes = env.informers.informer(NODES)
        self._budgets = env.informers.informer(POD_DISRUPTION_BUDGETS)
        self._namespaces = env.informers.informer(NAMESPACES)
        self._handle = Handle(
            env.client, env.informers, env.clock, env.random, env.activity, self.cache.nodes,
            self._namespace_labels,
        )  # fmt: skip
        self._namespaces.add_handler(
            self._namespace_changed, lambda old, new: self._namespace_changed(new),
            self._namespace_changed,
        )  # fmt: skip
        self.extenders = [Extender(config) for config in self.config.extenders]
        self.frameworks = Frameworks(self.config.with_ignored_resources(), self._handle)
        self.queue = SchedulingQueue(
            self.frameworks.may_help, self.frameworks.gate,
            self.config.pod_initial_backoff, self.config.pod_max_backoff,
        )  # fmt: skip
        self.algorithms = {f.name: self._algorithm(f) for f in self.frameworks.values()}
        self.recorders = {
            name: SeriesRecorder(env.client, name, clock=env.clock, activity=env.activity)
            for name in self.frameworks
        }
        self._handle.tell = self._tell
        for framework in self.frameworks.values():
            self._arm_preemption(framework)
        self.metrics = SchedulerMetrics(
            self.queue.counts, self.cache.sizes, self._refused_by, self.queue.incoming
        )
        self._tasks = TaskOwner("scheduler", self._crashed)
        self._bindings = asyncio.Semaphore(self.config.parallel_bindings)
        self._work = asyncio.Event()
        self._timer: TimerHandle | None = None
        self._crash = ""
        self._loop: asyncio.Task[Any] | None = None

    def _algorithm(self, framework: Framework) -> SchedulingAlgorithm:
        percentages = {
            p.scheduler_name: p.percentage_of_nodes_to_score for p in self.config.profiles
        }
        percentage = percentages[framework.name] or self.config.percentage_of_nodes_to_score
        return SchedulingAlgorithm(framework, self._env.random, self.nominator, percentage)

    def _arm_preemption(self, framework: Framework) -> None:
        for plugin in framework.plugins:
            if isinstance(plugin, DefaultPreemption):
                plugin.handle = PreemptionHandle(
                    self._client,
                    self.recorders[framework.name],
                    self._clock,
                    self._env.random,
                    self.nominator,
                    framework,
                    self.algorithms[framework.name].passes,
                    self.cache.nodes,
                    self._budgets.list,
                    lambda victims: self.metrics.preempted(victims),
                    self.extenders,
                )

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when pods are scheduled, or, with leader election, when it stands for
        election."""
        if self.config.leader_elect:
            from pilothouse.scheduler.leading import lead

            self._tasks.start(
                lead(self._env, self.config, self._begin, self._halt), "leader-election"
            )
        else:
            await self._begin()

    async def _begin(self) -> None:
        handlers = EventHandlers(
            self.queue,
            self.cache,
            self.nominator,
            scheduler_names=frozenset(self.frameworks),
            clock=self._clock,
            wake=self._wake,
        )
        # Volumes first: a pod's first try should find its claims.
        wanted = self.frameworks.resources()
        for informer in self._handle.used:
            kind = KIND_OF[informer.resource]
            if kind in wanted:
                handlers.attach_other(kind, informer)
        handlers.attach(self._pods, self._nodes)
        self._activity.add_probe("scheduler", lambda: self.queue.has_active)
        await self.load_informers()
        self._loop = self._tasks.start(self._run(), "loop")

    async def load_informers(self) -> None:
        """Until everything that plugins read is there."""
        self._env.informers.start()
        needed = (self._pods, self._nodes, self._budgets, self._namespaces)
        await self._env.informers.wait_synced((*needed, *self._handle.used))

    def _halt(self) -> None:
        """No more decisions: another one leads."""
        if self._loop is not None:
            self._loop.cancel()

    async def stop(self) -> None:
        self._activity.remove_probe("scheduler")
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        for recorder in self.recorders.values():
            await recorder.close()
        for extender in self.extenders:
            await extender.close()

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        namespace = self._namespaces.get(name)
        return {} if namespace is None else namespace["metadata"].get("labels") or {}

    def _namespace_changed(self, namespace: Obj) -> None:
        self._handle.namespaces_version += 1

    def health(self) -> str | None:
        return self._crash or None

    def metrics_text(self) -> str:
        """Prometheus' text format."""
        return self.metrics.text()

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
            except PluginFailure as error:
                await self._failed(queued, frozenset(), "SchedulerError", str(error))
            except Exception as error:  # one pod's trouble must not stop the others
                log.exception("scheduling %s failed", queued.pod.key)
                await self._failed(queued, frozenset(), "SchedulerError", str(error))

    async def _cycle(self, queued: QueuedPod) -> None:
        pod = queued.pod
        if pod.deleting:
            self._tell(pod, "Warning", "FailedScheduling", "Scheduling",
                       f"skip schedule deleting pod: {pod.key}")  # fmt: skip
            self.queue.done(pod.uid)
            return
        if self.cache.is_assumed(pod.uid):
            self.queue.done(pod.uid)
            return
        queued.started = self._clock.monotonic()
        framework = self.frameworks.of(pod)
        decision = await self._decide(framework, pod)
        after = self._clock.monotonic()
        self.metrics.algorithm_seconds.observe(after - queued.started)
        if not decision.node:
            await self._did_not_fit(framework, queued, decision)
            return
        self.cache.assume(pod, decision.node)
        try:
            status = framework.reserve(decision.state, pod, decision.node)
            self._ran("Reserve", status, framework, after)
        except Exception:  # a plugin's mistake: the decision must not stay
            self.cache.forget(pod)
            raise
        if status is not None:
            self.cache.forget(pod)
            await self._refused(queued, status)
            return
        self.nominator.remove(pod.uid)
        await self._bindings.acquire()
        self._activity.begin("binding")
        self._tasks.start(self._bind(framework, queued, decision), f"bind {pod.key}")

    async def _decide(self, framework: Framework, pod: PodInfo) -> Decision:
        algorithm = self.algorithms[framework.name]
        interested = [e for e in self.extenders if e.is_interested(pod)]
        if interested:
            return await algorithm.schedule_extended(pod, self.cache.nodes(), interested)
        return algorithm.schedule(pod, self.cache.nodes())

    def _tell(self, pod: PodInfo, type_: str, reason: str, action: str, note: str) -> None:
        recorder = self.recorders[self.frameworks.of(pod).name]
        recorder.event(pod.obj, None, type_, reason, action, note)

    # -- binding -------------------------------------------------------------------------

    async def _bind(self, framework: Framework, queued: QueuedPod, decision: Decision) -> None:
        pod, node = queued.pod, decision.node
        bound = expected = False
        begin = self._clock.monotonic()
        try:
            if framework.will_pre_bind(decision.state, pod, node):
                # Others (autoscalers) learn where it will run while claims and volumes are bound.
                expected = await self._write_nomination(pod, node)
            status = await framework.pre_bind(decision.state, pod, node)
            self._ran("PreBind", status, framework, begin)
            if status is None:
                begin = self._clock.monotonic()
                await self._write_binding(framework, pod, node)
                self._ran("Bind", None, framework, begin)
                bound = True
            else:
                self._take_back(framework, decision.state, pod, node)
                await self._refused(queued, status)
        except (StatusError, ExtenderError, OSError) as error:
            self._take_back(framework, decision.state, pod, node)
            if isinstance(error, StatusError) and is_not_found(error):
                self.queue.done(pod.uid)
            else:
                reason = f'binding rejected: running Bind plugin "DefaultBinder": {error}'
                await self._failed(queued, frozenset(), "SchedulerError", reason)
        except Exception as error:  # a plugin's mistake must not lose the pod
            log.exception("binding %s failed", pod.key)
            self._take_back(framework, decision.state, pod, node)
            await self._failed(queued, frozenset(), "SchedulerError", str(error))
        finally:
            self._bindings.release()
            if bound:
                self._bound(framework, queued, decision)
            elif expected:
                await self._write_nomination(pod, "")
            self._activity.end("binding")

    def _bound(self, framework: Framework, queued: QueuedPod, decision: Decision) -> None:
        pod, now = queued.pod, self._clock.monotonic()
        self.queue.done(pod.uid)
        self.metrics.attempted("scheduled", framework.name, now - queued.started)
        self.metrics.scheduled(queued.attempts, now - queued.first_added)
        framework.post_bind(decision.state, pod, decision.node)
        self._ran("PostBind", None, framework, now)
        note = f"Successfully assigned {pod.key} to {decision.node}"
        self._tell(pod, "Normal", "Scheduled", "Binding", note)

    def _ran(self, point: str, status: Status | None, framework: Framework, since: float) -> None:
        result = "Success" if status is None else _STATUSES.get(status.code, "Error")
        seconds = self._clock.monotonic() - since
        self.metrics.extension_seconds.observe(seconds, point, result, framework.name)

    def _refused_by(self) -> dict[tuple[str, ...], int]:
        """Parked pods, by plugin and profile."""
        found: dict[tuple[str, ...], int] = {}
        for queued in self.queue.parked():
            for plugin in queued.unschedulable_plugins:
                key = (plugin, self.frameworks.of(queued.pod).name)
                found[key] = found.get(key, 0) + 1
        return found

    async def _write_nomination(self, pod: PodInfo, node: str) -> bool:
        """The pod's nominatedNodeName; "" takes it back. False: it could not be written."""
        if node and pod.nominated_node_name == node:
            return True
        status = {"nominatedNodeName": node or None}
        return await patch_status(self._client, pod, status, "nominated node")

    async def _write_binding(self, framework: Framework, pod: PodInfo, node: str) -> None:
        for extender in self.extenders:
            if extender.config.bind_verb and extender.is_interested(pod):
                await extender.bind(pod, node)
                return
        await framework.binder.bind(pod, node)

    def _take_back(self, framework: Framework, state: CycleState, pod: PodInfo, node: str) -> None:
        framework.unreserve(state, pod, node)
        self.cache.forget(pod)

    async def _refused(self, queued: QueuedPod, status: Status) -> None:
        """By a plugin, after a node was found."""
        if status.code is Code.ERROR:
            await self._failed(queued, frozenset(), "SchedulerError", status.message)
        else:
            plugins = frozenset((status.plugin,))
            await self._failed(queued, plugins, "Unschedulable", status.message)

    # -- failure -------------------------------------------------------------------------

    async def _did_not_fit(
        self, framework: Framework, queued: QueuedPod, decision: Decision
    ) -> None:
        diagnosis = decision.diagnosis
        nominated = ""
        if diagnosis.all_nodes:
            messages = []
            begin = self._clock.monotonic()
            for plugin in framework.post_filters:
                try:
                    nominated, message = await plugin.post_filter(
                        decision.state, queued.pod, diagnosis.statuses
                    )
                except PluginFailure as error:
                    messages = [str(error)]
                    break
                messages += [message] if message else []
                if nominated:
                    break
            refused = None if nominated else Status(Code.UNSCHEDULABLE)
            self._ran("PostFilter", refused, framework, begin)
            diagnosis.post_filter_message = ", ".join(messages)
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
        result = "unschedulable" if reason == "Unschedulable" else "error"
        seconds = self._clock.monotonic() - queued.started
        self.metrics.attempted(result, self.frameworks.of(pod).name, seconds)
        self._tell(pod, "Warning", "FailedScheduling", "Scheduling", message)
        await self._write_failure(pod, reason, message, nominated)

    async def _write_failure(self, pod: PodInfo, reason: str, message: str, nominated: str) -> None:
        status = failure_status(pod.obj, reason, message, nominated, self._now())
        if status is None:
            return
        await patch_status(self._client, pod, status, "condition")

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
