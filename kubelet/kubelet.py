"""The kubelet of one node: pods assigned to it in, running containers and statuses out.

Sources of work: the pod informer (what should run), the runtime's events (what happened), probes,
and time (back-off, deadlines). Each only kicks the pod's worker; what is done is below, in three
steps of a pod's life, and the decisions are pure (``pod_actions.py``, ``pod_status.py``,
``pod_worker_state.py``).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.cache.informer import Registration
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubeclient.resources import PODS
from pilothouse.kubelet.admission import PodAdmission
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.early_status import EarlyStatus, is_new
from pilothouse.kubelet.interfaces import (
    Environments,
    Hooks,
    MountedVolume,
    MountError,
    Probes,
    Volumes,
)
from pilothouse.kubelet.local_storage import LOOK_SECONDS, LocalStorage, is_limited
from pilothouse.kubelet.mirror_pods import MirrorPods
from pilothouse.kubelet.node_care import NodeCare
from pilothouse.kubelet.node_registration import NodeRegistration
from pilothouse.kubelet.node_shutdown import NOT_READY, NodeShutdown
from pilothouse.kubelet.node_status import Machine, read_machine
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.pod_changes import (
    deadline_left,
    foreign_conditions,
    has_refreshed_volumes,
    is_lost,
    key_of,
    only_status_changed,
    pod_from_runtime,
)
from pilothouse.kubelet.pod_status import StatusInputs, generate_status
from pilothouse.kubelet.pod_worker_state import PodWorkerState
from pilothouse.kubelet.pod_workers import PodWorkers
from pilothouse.kubelet.pull_secrets import load_pull_secrets
from pilothouse.kubelet.resizing import Resizes
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.handlers import handler_check
from pilothouse.kubelet.runtime.interfaces import ImageService, RuntimeEvent, RuntimeService
from pilothouse.kubelet.runtime.manager import RuntimeManager, SyncResult
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus, compute_pod_actions
from pilothouse.kubelet.runtime.restart_all import condition_holds
from pilothouse.kubelet.static_pods import is_mirror, running_uid
from pilothouse.kubelet.status_manager import StatusManager
from pilothouse.kubelet.termination_message import TerminationMessages
from pilothouse.kubelet.user_namespaces import UserNamespaces

if TYPE_CHECKING:
    from pilothouse.kubelet.plugins.node_devices import NodeDevices

log = logging.getLogger(__name__)
RUNTIME_RETRY_SECONDS = 1.0
FAILED_SYNC_SECONDS = 2.0
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


class Kubelet:
    """Implements ``kubeclient.interfaces.Component`` and ``pod_workers.PodSyncer``."""

    def __init__(
        self,
        env: Environment,
        config: KubeletConfig,
        runtime: RuntimeService,
        images: ImageService,
        *,
        volumes: Volumes,
        environments: Environments,
        hooks: Hooks,
        probes: Probes,
        recorder: EventRecorder,
        machine: Machine | None = None,
        runtime_handlers: tuple[str, ...] | None = None,
        devices: NodeDevices | None = None,
    ) -> None:
        """``runtime_handlers``: those that RuntimeClasses may name; None: any."""
        self.name = f"kubelet {config.node_name}"
        self.config = config
        self.runtime = runtime
        self.images = images
        self._env = env
        self._client = self.client = env.client
        self._clock = self.clock = env.clock
        self._machine = machine or read_machine(config.root_dir)
        self.recorder = recorder
        self.cache = PodCache(runtime, TerminationMessages(config.root_dir).read)
        self.volumes = volumes
        self.probes, self._devices = probes, devices
        self.admission = PodAdmission(config.allowed_unsafe_sysctls, self._pressures)
        self.resizes = Resizes(self.admission, recorder)
        self.local_storage = LocalStorage(runtime, self.cache)
        self.manager = RuntimeManager(
            runtime, images, cache=self.cache, volumes=volumes, environments=environments,
            hooks=hooks, recorder=self.recorder, clock=env.clock, root_dir=config.root_dir,
            cgroup_root=config.cgroup_root, node_memory=self._machine.memory_bytes,
            check_handler=handler_check(env.client, runtime_handlers), devices=devices,
            pids_limit=config.pod_pids_limit, cluster_domain=config.cluster_domain,
            users=UserNamespaces(
                config.root_dir, first=config.user_namespace_first, slots=config.max_pods
            ),
        )  # fmt: skip
        self.user_namespaces = self.manager.users
        self._pods = env.informers.informer(
            PODS, field_selector=f"spec.nodeName={config.node_name}"
        )
        self.statuses = StatusManager(
            env.client, env.activity, self._by_uid, lambda s, f: env.clock.call_later(s, f)
        )
        self.terminations = self.statuses.terminations
        self.workers = PodWorkers(self, env.clock, env.activity, self._pod_finished)
        self._uids: dict[str, str] = {}
        """Object key by uid, for pods that the API has."""
        self._waiting: dict[str, dict[str, tuple[str, str]]] = {}
        self._ending: set[str] = set()
        """Uids of pods whose containers are being stopped."""
        self._scheme = "unknown"
        self._problem = "container runtime is not connected yet"
        self._registration: Registration | None = None
        self._add_node_parts()

    def _add_node_parts(self) -> None:
        self.registration = NodeRegistration(
            self._env, self.config, self._machine, self.runtime, self.images, self._not_ready,
            self._pressures,
        )  # fmt: skip
        self._tasks = TaskOwner(self.name)
        self.mirrors = MirrorPods(
            self.workers, self.statuses, self._pods, self._uids,
            release=self._release, tasks=self._tasks, activity=self._env.activity,
        )  # fmt: skip
        self.care = NodeCare(self)
        self.shutdown = NodeShutdown(self)

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        """:raises RuntimeFailure: the runtime does not answer."""
        self._scheme = (await self.runtime.info()).name
        events = self.runtime.events()
        await self.cache.relist()
        self._problem = ""
        self._tasks.start(self._follow_runtime(events), "runtime events")
        self._env.informers.start()
        await asyncio.gather(self.registration.register(), self._pods.wait_synced())
        known = {pod["metadata"]["uid"] for pod in self._pods.list()} | self.cache.uids()
        self.user_namespaces.load(known)
        self._registration = self._pods.add_handler(
            self._pod_added, self._pod_updated, self._pod_deleted
        )
        if self.config.static_pod_path:
            await self.care.static.look()
        self._end_orphans()
        if self._devices is not None:
            self.registration.extended = self._devices.counts
            await self._devices.start(self._uids)
        self._tasks.start(self.registration.run(), "heartbeat")
        if (await self.runtime.info()).capabilities.real_processes:
            self._tasks.start(self.care.housekeeping.run(), "housekeeping")
        self.recorder.event(self.config.node_reference, "Normal", "Starting", "Starting kubelet.")

    async def stop(self) -> None:
        """Containers go on running; the next kubelet finds them."""
        if self._registration is not None:
            self._registration.remove()
        await self._tasks.close()
        await self.workers.stop()
        await self.probes.stop()
        if self._devices is not None:
            await self._devices.stop()
        await self.statuses.stop()
        await self.recorder.close()

    def health(self) -> str | None:
        return self._problem or None

    def _not_ready(self) -> str:
        return self._problem or (NOT_READY if self.shutdown.running else "")

    def _pressures(self) -> frozenset[str]:
        return self.care.eviction.conditions

    # -- what happens --------------------------------------------------------------------

    def _pod_added(self, pod: Obj) -> None:
        if is_mirror(pod):
            self.mirrors.changed(pod)
            return
        self._uids[pod["metadata"]["uid"]] = key_of(pod)
        self.workers.update_pod(pod)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if old["metadata"]["uid"] != new["metadata"]["uid"]:
            self._pod_deleted(old)
            self._pod_added(new)
        elif is_mirror(new):
            self.mirrors.changed(new)
        elif only_status_changed(old, new):
            state = self.workers.get(new["metadata"]["uid"])
            if state is not None:
                state.pod = new
                if foreign_conditions(old) != foreign_conditions(
                    new
                ) or self.statuses.was_overwritten(new):
                    self.workers.kick(new["metadata"]["uid"])
        else:
            self.workers.update_pod(new)

    def _pod_deleted(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        if is_mirror(pod):
            self.mirrors.look()
            return
        self._uids.pop(uid, None)
        self._release(uid)
        self.statuses.forget(uid)
        self.workers.object_gone(uid)

    def _by_uid(self, uid: str) -> Obj | None:
        key = self._uids.get(uid)
        pod = self._pods.get(key) if key is not None else None
        return pod if pod is not None and running_uid(pod) == uid else None

    def find_pod(self, namespace: str, name: str) -> Obj | None:
        """The pod with its newest known status, for the kubelet's own API."""
        pod = self._pods.get(f"{namespace}/{name}")
        return self.mirrors.shown(pod) if pod is not None else None

    def pods(self) -> list[Obj]:
        return [self.mirrors.shown(pod) for pod in self._pods.list()]

    async def _follow_runtime(self, events: object) -> None:
        """Until cancelled; a lost runtime makes the node NotReady until it is back."""
        while True:
            async for event in events:  # type: ignore[attr-defined]
                with self._env.activity.work("runtime event"):
                    await self._runtime_event(event)
            self._problem = "container runtime is down"
            self.registration.status_changed()
            events = await self._reconnect()
            self._problem = ""
            self.registration.status_changed()

    async def _runtime_event(self, event: RuntimeEvent) -> None:
        try:
            if await self.cache.on_event(event):
                self.workers.kick(event.pod_uid or self.cache.pod_of(event.container_id))
        except RuntimeFailure as error:
            log.warning("could not look at %s: %s", event.container_id or event.sandbox_id, error)

    async def _reconnect(self) -> object:
        while True:
            await self._clock.sleep(RUNTIME_RETRY_SECONDS)
            try:
                await self.runtime.info()
                events = self.runtime.events()
                for uid in await self.cache.relist():
                    self.workers.kick(uid)
            except (RuntimeFailure, OSError) as error:
                log.warning("container runtime is down: %s", error)
            else:
                return events

    def _end_orphans(self) -> None:
        """Pods that the runtime has but the API does not (any more) must end."""
        for uid in self.cache.uids():
            if uid not in self._uids:
                self.workers.update_pod(pod_from_runtime(self.cache, uid))
                self.workers.object_gone(uid)

    # -- the steps of a pod's life (PodSyncer) -------------------------------------------

    async def sync_pod(self, state: PodWorkerState) -> float | None:
        pod = self.statuses.last(state.pod)
        uid = pod["metadata"]["uid"]
        left = deadline_left(pod, self._clock.now())
        if left is not None and left <= 0:
            state.terminate(DEADLINE, None)
            return None
        runtime = self.cache.get(uid)
        first = cache(partial(self._status, pod, state, runtime=runtime))
        new = state.failure is None and is_new(pod, runtime)
        if not new and first()["phase"] in ("Succeeded", "Failed"):
            self._release(uid)
            self.statuses.set(pod, first())
            state.terminate(None, None)
            return None
        ran = bool(runtime.sandboxes)
        rejection = self.admission.admit(pod, self.registration.node, running=ran)
        if rejection is None and self._devices is not None and not ran:
            rejection = await self._devices.admit(pod)
        if rejection is not None:
            state.terminate(rejection, 0)
            return None
        pod = self._allowed(pod)
        restart_all = not new and condition_holds(first())
        if restart_all or is_lost(pod, runtime):
            self.statuses.set(pod, first())  # what was there before is counted and told of
        early = EarlyStatus(self._clock, partial(self._tell, pod, first))
        try:
            mounted = await self._mount(pod)
            if mounted is None:
                self.statuses.set(pod, first())
                return FAILED_SYNC_SECONDS
            evicted = await self.local_storage.problem(pod, mounted)
            if evicted is not None:
                self.recorder.event(pod, "Warning", "Evicted", evicted)
                state.terminate(("Evicted", evicted), 0)
                return None
            result = await self._sync_runtime(pod, mounted, restart_all)
        finally:
            early.cancel()
        self._waiting[uid] = result.waiting
        pod = self._allowed(self.statuses.last(state.pod))
        self.resizes.actuated(
            pod, result.resize_error, unfinished=self.manager.resizer.in_progress(pod)
        )
        status = self._status(pod, state)
        if status["phase"] in ("Succeeded", "Failed"):
            self._release(uid)
        self.statuses.set(pod, status)
        self.probes.update(self.statuses.last(pod), self.cache.get(uid))
        if status["phase"] in ("Succeeded", "Failed"):
            state.terminate(None, None)
            return None
        if restart_all or condition_holds(status) or self._has_more_to_do(pod, result):
            state.dirty = True
        left = deadline_left(pod | {"status": status}, self._clock.now())
        wait = self._next_look(pod, result, left)
        state.only_refreshes = wait in (self.config.resync_seconds, LOOK_SECONDS)
        return wait

    def _tell(self, pod: Obj, status: Callable[[], Obj]) -> None:
        self.statuses.set(pod, status())

    def _allowed(self, pod: Obj) -> Obj:
        """The pod with the resources that this node can give it (in-place resize)."""
        allowed, changed = self.resizes.allowed(pod, self.registration.node)
        if changed:
            self._room_appeared(pod["metadata"]["uid"])
        return allowed

    def _release(self, uid: str) -> None:
        """Nothing of the pod runs any more."""
        self.admission.release(uid)
        self._room_appeared(uid)

    def _room_appeared(self, uid: str) -> None:
        for other in self.resizes.waiting():
            if other != uid:
                self.workers.kick(other)

    def _next_look(self, pod: Obj, result: SyncResult, deadline: float | None) -> float | None:
        waits = []
        if result.retry_at is not None:
            waits.append(max(result.retry_at - self._clock.monotonic(), 0.0))
        if result.failed:
            waits.append(FAILED_SYNC_SECONDS)
        if deadline is not None:
            waits.append(deadline)
        if is_limited(pod) or self.volumes.grows(pod["metadata"]["uid"]):
            waits.append(LOOK_SECONDS)
        if self.resizes.pending(pod["metadata"]["uid"]) or has_refreshed_volumes(pod):
            waits.append(self.config.resync_seconds)
        return min(waits, default=None)

    def _has_more_to_do(self, pod: Obj, result: SyncResult) -> bool:
        """A container may have ended before its start was noted: then no event tells of it."""
        if result.failed or result.retry_at is not None:
            return False
        uid = pod["metadata"]["uid"]
        return not compute_pod_actions(pod, self.cache.get(uid), self.probes.results(uid)).nothing

    async def _mount(self, pod: Obj) -> dict[str, MountedVolume] | None:
        try:
            return await self.volumes.mount(self._devices.placed(pod) if self._devices else pod)
        except MountError as error:
            self.recorder.event(pod, "Warning", "FailedMount", str(error))
            return None

    async def _sync_runtime(
        self, pod: Obj, mounted: dict[str, MountedVolume], restart_all: bool
    ) -> SyncResult:
        credentials, missing = await load_pull_secrets(self._client, pod)
        if missing:
            self.recorder.event(
                pod, "Warning", "FailedToRetrieveImagePullSecret",
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
                "attempting to pull the image may not succeed.",
            )  # fmt: skip
        probes = self.probes.results(pod["metadata"]["uid"])
        return await self.manager.sync_pod(
            pod, mounted, probes, credentials, restart_all=restart_all
        )

    def _status(
        self,
        pod: Obj,
        state: PodWorkerState,
        terminating: bool = False,
        runtime: PodRuntimeStatus | None = None,
    ) -> Obj:
        uid = pod["metadata"]["uid"]
        runtime = runtime or self.cache.get(uid)
        status = generate_status(
            pod,
            StatusInputs(
                runtime=runtime,
                runtime_scheme=self._scheme,
                now=self._clock.now(),
                host_ips=(self.config.node_ip,),
                waiting=self._waiting.get(uid, {}),
                ready=frozenset() if terminating else self.probes.ready(pod, runtime),
                started=self.probes.started(pod, runtime),
                terminating=terminating,
                failure=state.failure,
                resize_pending=self.resizes.pending(uid),
                resize_progress=self.resizes.progress(uid),
                given=self.manager.resizer.behind(pod),
                given_pod=self.manager.resizer.pod_behind(pod),
            ),
        )
        if self._devices is not None:
            self._devices.add_health(pod, status)
        return status

    async def sync_terminating_pod(self, state: PodWorkerState) -> None:
        pod = self.statuses.last(state.pod)
        uid = pod["metadata"]["uid"]
        if state.failure and not state.deleted:
            self.recorder.event(pod, "Warning", *state.failure)
        self.probes.keep_readiness(uid)
        self._ending.add(uid)
        try:
            await self.manager.kill_pod(pod, state.grace_seconds)
        except RuntimeFailure as error:
            self.recorder.event(pod, "Warning", "FailedKillPod", f"error killing pod: {error}")
            raise
        finally:
            self._ending.discard(uid)
        if self._devices is not None:
            await self._devices.end(pod)
        self.probes.remove(uid)
        self._waiting.pop(uid, None)
        self._release(uid)
        if not state.deleted:
            self.statuses.set(pod, self._status(pod, state, terminating=True))

    async def sync_terminated_pod(self, state: PodWorkerState) -> None:
        uid = state.pod["metadata"]["uid"]
        status = self.cache.get(uid)
        if status.running or any(s.state == "ready" for s in status.sandboxes):
            await self.manager.kill_pod(state.pod, 0)  # started at the very last moment
        await self.volumes.unmount(state.pod)
        self.user_namespaces.release(uid)
        if state.deleted:
            await self.manager.remove_pod(uid)
            await asyncio.to_thread(
                shutil.rmtree, self.manager.log_directory(state.pod), ignore_errors=True
            )
            state.removed = True
            return
        pod = self.statuses.last(state.pod)
        delete = "deletionTimestamp" in pod["metadata"]
        self.statuses.set(pod, self._status(pod, state, terminating=True), delete=delete)

    def _pod_finished(self, uid: str) -> None:
        self._waiting.pop(uid, None)
        self.resizes.forget(uid)
        self.probes.remove(uid)
        self.statuses.forget(uid)
        if self.config.static_pod_path:
            self.mirrors.look()

    def probe_changed(self, uid: str) -> None:
        """A probe's result is different now."""
        state = self.workers.get(uid)
        if uid not in self._ending or state is None:
            self.workers.kick(uid)
        elif state.failure is None:  # its worker waits for the end of the containers
            pod = self.statuses.last(state.pod)
            self.statuses.set(pod, self._status(pod, state))
