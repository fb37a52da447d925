"""Probe workers: one timer-driven worker per running container and probe (prober_manager.go)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pilothouse.apimachinery.clock import Clock, TimerHandle
from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubelet.probes.metrics import ProbeMetrics
from pilothouse.kubelet.probes.prober import ENDED_REDIRECTS, Prober
from pilothouse.kubelet.probes.results import KINDS, Kind, ProbeSpec, Thresholds, probe_spec
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus, ProbeResults, is_sidecar

Key = tuple[str, Kind]
"""(container id, kind of probe)"""
TITLES = {"liveness": "Liveness", "readiness": "Readiness", "startup": "Startup"}


class ProbeManager:
    """Implements ``interfaces.Probes``. Waiting costs a timer, not a task."""

    def __init__(
        self,
        prober: Prober,
        recorder: EventRecorder,
        clock: Clock,
        random: Random,
        on_change: Callable[[str], None],
    ) -> None:
        self._prober = prober
        self._recorder = recorder
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._workers: dict[str, dict[Key, _Worker]] = {}
        self.metrics = ProbeMetrics()
        self._tasks = TaskOwner("probes")

    # -- interfaces.Probes ---------------------------------------------------------------

    def update(self, pod: Obj, status: PodRuntimeStatus) -> None:
        uid = pod["metadata"]["uid"]
        wanted = _wanted(pod, status)
        workers = self._workers.get(uid)
        if workers is None:
            if not wanted:
                return
            workers = self._workers[uid] = {}
        for key in [key for key in workers if key not in wanted]:
            workers.pop(key).stop()
        for key, (container, spec) in wanted.items():
            if key in workers:
                workers[key].pod = pod
            else:
                workers[key] = _Worker(self, pod, container, key, spec)
                workers[key].schedule_first()

    def keep_readiness(self, uid: str) -> None:
        workers = self._workers.get(uid, {})
        for key in [key for key in workers if key[1] == "liveness"]:
            workers.pop(key).stop()
        for (_, kind), worker in workers.items():
            if kind == "startup":
                worker.stop()  # but what it has found out still counts

    def remove(self, uid: str) -> None:
        for worker in self._workers.pop(uid, {}).values():
            worker.stop()

    def results(self, uid: str) -> ProbeResults:
        workers = self._workers.get(uid)
        if not workers:
            return ProbeResults()
        failed: dict[Kind, set[str]] = {"liveness": set(), "startup": set(), "readiness": set()}
        started = set()
        for (container_id, kind), worker in workers.items():
            if worker.failed:
                failed[kind].add(container_id)
            if kind == "startup" and worker.thresholds.result:
                started.add(container_id)
        return ProbeResults(
            frozenset(failed["liveness"]), frozenset(failed["startup"]), frozenset(started)
        )

    def ready(self, pod: Obj, status: PodRuntimeStatus) -> frozenset[str]:
        started = self.started(pod, status)
        workers = self._workers.get(pod["metadata"]["uid"], {})
        ready = set()
        for container, current in _running(pod, status):
            if current not in started:
                continue
            worker = workers.get((current, "readiness"))
            if worker.thresholds.result if worker else not container.get("readinessProbe"):
                ready.add(current)
        return frozenset(ready)

    def started(self, pod: Obj, status: PodRuntimeStatus) -> frozenset[str]:
        workers = self._workers.get(pod["metadata"]["uid"], {})
        started = set()
        for container, current in _running(pod, status):
            worker = workers.get((current, "startup"))
            if worker.thresholds.result if worker else not container.get("startupProbe"):
                started.add(current)
        return frozenset(started)

    async def stop(self) -> None:
        for uid in list(self._workers):
            self.remove(uid)
        await self._tasks.close()

    # -- for workers ---------------------------------------------------------------------

    def startup_pending(self, worker: _Worker) -> bool:
        """Liveness and readiness wait for the startup probe."""
        uid, (container_id, kind) = worker.pod["metadata"]["uid"], worker.key
        startup = self._workers.get(uid, {}).get((container_id, "startup"))
        return kind != "startup" and startup is not None and not startup.thresholds.result


class _Worker:
    """One probe of one container: waits, probes, counts."""

    def __init__(
        self, manager: ProbeManager, pod: Obj, container: Obj, key: Key, spec: ProbeSpec
    ) -> None:
        self.pod = pod
        self.key = key
        self._manager = manager
        self._container = container
        self._spec = spec
        # A container lives until its liveness probe says otherwise, but is not ready before.
        self.thresholds = Thresholds(spec, key[1] == "liveness")
        self.failed = False
        """Its threshold of failures was reached."""
        self._timer: TimerHandle | None = None
        self._stopped = False

    def schedule_first(self) -> None:
        # Spread over the period, so that many pods are not probed at the same moment.
        self._wait(self._spec.initial_delay or self._manager._random.random() * 0.2)

    def _wait(self, seconds: float) -> None:
        if not self._stopped:
            self._timer = self._manager._clock.call_later(seconds, self._begin)

    def _begin(self) -> None:
        if self._manager.startup_pending(self):
            self._wait(min(self._spec.period, 1.0))
            return
        self._manager._tasks.start(self._probe(), f"{self.key[1]} {self._container['name']}")

    async def _probe(self) -> None:
        try:
            ips = (self.pod.get("status") or {}).get("podIP") or ""
            begin = self._manager._clock.monotonic()
            success, text = await self._manager._prober.probe(
                self._spec, self.pod, self._container, self.key[0], ips
            )
            if not self._stopped:
                seconds = self._manager._clock.monotonic() - begin
                self._manager.metrics.probed(self._labels(), seconds, success=success)
                self._take(success, text)
        finally:
            done_starting = self.key[1] == "startup" and self.thresholds.result
            if not done_starting:
                self._wait(self._spec.period)

    def _take(self, success: bool, text: str) -> None:
        kind = self.key[1]
        if not success:
            self._warn("Unhealthy", f"{TITLES[kind]} probe failed: {text}")
        elif text.startswith(ENDED_REDIRECTS):
            self._warn("ProbeWarning", f"{TITLES[kind]} probe warning: {text}")
        changed = self.thresholds.add(success)
        failed = not success and self._reached_failure(changed)
        if changed or failed != self.failed:
            self.failed = failed
            self._manager._on_change(self.pod["metadata"]["uid"])

    def _warn(self, reason: str, message: str) -> None:
        list_name = "initContainers" if is_sidecar(self._container) else "containers"
        path = f"spec.{list_name}{{{self._container['name']}}}"
        self._manager._recorder.event(self.pod, "Warning", reason, message, field_path=path)

    def _reached_failure(self, changed: bool) -> bool:
        """A startup probe is false from the start: its threshold counts all the same."""
        return self.failed or changed or self.thresholds.failures >= self._spec.failure_threshold

    def _labels(self) -> tuple[str, str, str, str, str]:
        """Type of the probe, container, pod, namespace, uid."""
        metadata = self.pod["metadata"]
        where = (metadata["name"], metadata.get("namespace", ""), metadata["uid"])
        return (TITLES[self.key[1]], self._container["name"], *where)

    def stop(self) -> None:
        self._stopped = True
        self._manager.metrics.forget(self._labels())
        if self._timer is not None:
            self._timer.cancel()


def _running(pod: Obj, status: PodRuntimeStatus) -> list[tuple[Obj, str]]:
    """(container, id) of what runs and can have probes: containers and sidecars."""
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if is_sidecar(c)]
    result = []
    for container in (*sidecars, *(spec.get("containers") or ())):
        newest = status.newest(container["name"])
        if newest is not None and newest.state == "running":
            result.append((container, newest.id))
    return result


def _wanted(pod: Obj, status: PodRuntimeStatus) -> dict[Key, tuple[Obj, ProbeSpec]]:
    wanted: dict[Key, tuple[Obj, ProbeSpec]] = {}
    for container, container_id in _running(pod, status):
        for kind in KINDS:
            spec = probe_spec(container, kind)
            if spec is not None:
                wanted[container_id, kind] = (container, spec)
    return wanted
