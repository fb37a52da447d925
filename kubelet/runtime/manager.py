"""Carries out a pod's actions on the runtime: sandboxes, images, containers.

``sync_pod`` computes the actions (``pod_actions.py``) and does them; ``kill_pod`` stops everything.
What could not be done is answered as reasons by container, with the time when trying again makes
sense (upstream: kuberuntime_manager.go).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubelet.backoff import KeyedBackoff
from pilothouse.kubelet.image_manager import Credentials, ImageError, ImageManager
from pilothouse.kubelet.interfaces import (
    ContainerConfigError,
    Environments,
    HookError,
    Hooks,
    MountedVolume,
    Volumes,
)
from pilothouse.kubelet.plugins.edited import edited
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.container_specs import (
    container_config,
    non_root_problem,
    sandbox_config,
)
from pilothouse.kubelet.runtime.errors import NotFound, RuntimeFailure, StartError
from pilothouse.kubelet.runtime.handlers import HandlerCheck
from pilothouse.kubelet.runtime.interfaces import (
    ContainerConfig,
    ContainerStatus,
    ImageService,
    PodSandboxConfig,
    RuntimeService,
)
from pilothouse.kubelet.runtime.killing import LISTS, Killer
from pilothouse.kubelet.runtime.pod_actions import (
    ContainerToKill,
    ContainerToStart,
    PodActions,
    ProbeResults,
    compute_pod_actions,
    container_hash,
)
from pilothouse.kubelet.runtime.resizer import Resizer
from pilothouse.kubelet.runtime.uninterrupted import uninterrupted
from pilothouse.kubelet.user_namespaces import UNSUPPORTED, UserNamespaces, wants_users

if TYPE_CHECKING:
    from pilothouse.kubelet.plugins.node_devices import NodeDevices

log = logging.getLogger(__name__)
KEPT_DEAD = 1
"""Ended containers kept per name besides the newest, for logs --previous and lastState."""


@dataclass(slots=True)
class SyncResult:
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(reason, message) by container that is not running."""
    retry_at: float | None = None
    """Monotonic time when a back-off ends."""
    resize_error: str = ""
    failed: bool = False
    """Something went wrong that a later try may mend (no back-off of its own)."""

    def wait_until(self, moment: float | None) -> None:
        if moment is not None:
            self.retry_at = moment if self.retry_at is None else min(self.retry_at, moment)


class RuntimeManager:
    def __init__(
        self,
        runtime: RuntimeService,
        images: ImageService,
        *,
        cache: PodCache,
        volumes: Volumes,
        environments: Environments,
        hooks: Hooks,
        recorder: EventRecorder,
        clock: Clock,
        root_dir: str,
        cgroup_root: str = "",
        cluster_domain: str = "cluster.local",
        node_memory: int = 0,
        pids_limit: int = 0,
        check_handler: HandlerCheck | None = None,
        devices: NodeDevices | None = None,
        users: UserNamespaces | None = None,
    ) -> None:
        self.users = users or UserNamespaces(root_dir)
        self._runtime = runtime
        self._images = images
        self._image_manager = ImageManager(images, recorder, clock)
        self._cache = cache
        self._volumes = volumes
        self._environments = environments
        self._hooks = hooks
        self._recorder = recorder
        self._clock = clock
        self._root = root_dir
        self._cgroup_root = cgroup_root
        self._cluster_domain = cluster_domain
        self._node_memory = node_memory
        self._check_handler = check_handler
        self._devices = devices
        self._killer = Killer(runtime, cache=cache, hooks=hooks, recorder=recorder, clock=clock)
        self._crash_backoff = KeyedBackoff(clock, initial=10.0, maximum=300.0)
        self.resizer = Resizer(
            runtime, cache, self._killer, node_memory=node_memory, pids_limit=pids_limit
        )

    def log_directory(self, pod: Obj) -> str:
        """``logs/<namespace>_<name>_<uid>``: one folder per container, one file per attempt."""
        metadata = pod["metadata"]
        name = f"{metadata.get('namespace')}_{metadata['name']}_{metadata['uid']}"
        return os.path.join(self._root, "logs", name)

    # -- syncing -------------------------------------------------------------------------

    async def sync_pod(
        self,
        pod: Obj,
        mounted: dict[str, MountedVolume],
        probes: ProbeResults,
        credentials: Credentials,
        *,
        restart_all: bool = False,
    ) -> SyncResult:
        """``restart_all``: only removes all containers; the next call starts them anew."""
        uid = pod["metadata"]["uid"]
        actions = compute_pod_actions(pod, self._cache.get(uid), probes, restart_all=restart_all)
        result = await self._act(pod, actions, mounted, credentials)
        if actions.create_sandbox and wants_users(pod):
            self.users.started.inc()
            if result.failed or result.waiting:
                self.users.failed.inc()
        return result

    async def _act(
        self,
        pod: Obj,
        actions: PodActions,
        mounted: dict[str, MountedVolume],
        credentials: Credentials,
    ) -> SyncResult:
        result = SyncResult()
        for reset in actions.reset:
            await self._killer.reset(pod, reset)
            self.resizer.forget(reset.id)
        if actions.nothing:
            return await self._resized(pod, result)
        if actions.reset:
            return result
        if actions.kill_pod:
            await self._replace_sandbox(pod, actions)
            if not actions.create_sandbox:
                return result
        for kill in actions.kill:
            await self._killer.kill_container(pod, kill, None)
        sandbox_id = actions.sandbox_id
        if actions.create_sandbox:
            sandbox_id = await self._create_sandbox(pod, actions, result)
            if not sandbox_id:
                return result
        if actions.start:
            await self.resizer.widen(pod)
        for start in actions.start:
            await self._start(pod, sandbox_id, start, mounted, credentials, result)
        return await self._resized(pod, result)

    async def _resized(self, pod: Obj, result: SyncResult) -> SyncResult:
        result.resize_error = await self.resizer.resize(pod)
        result.failed |= bool(result.resize_error)
        return result

    async def _replace_sandbox(self, pod: Obj, actions: PodActions) -> None:
        if actions.create_sandbox and actions.sandbox_id:
            self._recorder.event(
                pod, "Normal", "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            )  # fmt: skip
        await self.kill_pod(pod, None)

    async def _create_sandbox(self, pod: Obj, actions: PodActions, result: SyncResult) -> str:
        """The new sandbox's id; '' after a failure."""
        problem = "" if self._devices is None else await self._devices.prepare(pod)
        if problem:
            self._recorder.event(pod, "Warning", "FailedPrepareDynamicResources", problem)
            result.failed = True
            return ""
        try:
            config = sandbox_config(
                pod,
                actions.attempt,
                log_directory=self.log_directory(pod),
                cgroup_root=self._cgroup_root,
                cluster_domain=self._cluster_domain,
                resources=self.resizer.of_pod(pod),
                user_namespace=await self._users(pod),
            )
            if self._check_handler is not None:
                await self._check_handler(pod)
            return await uninterrupted(self._run_sandbox(config))
        except RuntimeFailure as error:
            self._recorder.event(
                pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}"
            )
            result.failed = True
            return ""

    async def _users(self, pod: Obj) -> int:
        """The first of the pod's own ids; 0: it has the node's. It must not run without them."""
        if not wants_users(pod):
            return 0
        able = (await self._runtime.info()).capabilities
        if able.user_namespaces:
            return await asyncio.to_thread(self.users.of, pod)
        if able.real_processes:
            raise RuntimeFailure(UNSUPPORTED)
        return 0

    async def _run_sandbox(self, config: PodSandboxConfig) -> str:
        sandbox_id = await self._runtime.run_pod_sandbox(config)
        self.resizer.note_sandbox(config.uid, config.resources)
        await self._cache.refresh_sandbox(config.uid, sandbox_id)
        return sandbox_id

    async def _start(
        self,
        pod: Obj,
        sandbox_id: str,
        start: ContainerToStart,
        mounted: dict[str, MountedVolume],
        credentials: Credentials,
        result: SyncResult,
    ) -> None:
        """Starts one container, or notes why not."""
        list_name = LISTS[start.kind]
        containers = pod["spec"].get(list_name) or ()
        container = next(c for c in containers if c["name"] == start.name)
        uid = pod["metadata"]["uid"]
        newest = self._cache.get(uid).newest(start.name)
        path = f"spec.{list_name}{{{start.name}}}"
        if self._in_crash_backoff(pod, container, newest, path, result):
            return
        try:
            await self._create_and_start(pod, sandbox_id, start, container, newest, mounted,
                                         credentials, path)  # fmt: skip
        except ImageError as error:
            result.waiting[start.name] = (error.reason, error.message)
            result.wait_until(error.retry_at)
            # Soon after a failed pull the pod is shown backing off, until the back-off ends.
            result.failed |= error.retry_at is None or error.reason == "ErrImagePull"
        except ContainerConfigError as error:
            self._event(pod, path, "Warning", "Failed", f"Error: {error}")
            result.waiting[start.name] = ("CreateContainerConfigError", str(error))
            result.failed = True
        except StartError as error:
            result.waiting[start.name] = ("RunContainerError", str(error))
        except HookError as error:
            self._event(pod, path, "Warning", "FailedPostStartHook", "PostStartHook failed")
            result.waiting[start.name] = ("PostStartHookError", str(error))
        except RuntimeFailure as error:
            self._event(pod, path, "Warning", "Failed", f"Error: {error}")
            result.waiting[start.name] = ("CreateContainerError", str(error))
            result.failed = True

    def _event(self, pod: Obj, path: str, type_: str, reason: str, message: str) -> None:
        self._recorder.event(pod, type_, reason, message, field_path=path)

    def _in_crash_backoff(
        self,
        pod: Obj,
        container: Obj,
        newest: ContainerStatus | None,
        path: str,
        result: SyncResult,
    ) -> bool:
        """CrashLoopBackOff: a container that has ended waits 10 s, 20 s … 5 min before it runs
        again, counted from its end; ten minutes of running reset it."""
        if newest is None or newest.state != "exited" or self.resizer.restarts(newest.id):
            return False
        name = container["name"]
        # Of this version of the container: a new image starts without delay (GetBackoffKey).
        key = f"{pod['metadata']['uid']}/{name}/{container_hash(container)}"
        ended = self._clock.monotonic() - max(self._clock.time() - newest.finished_at, 0.0)
        until = self._crash_backoff.until(key, ended)
        if until is None:
            self._crash_backoff.failed(key, ended)
            return False
        seconds = int(self._crash_backoff.seconds(key))
        metadata = pod["metadata"]
        text = (
            f"back-off {_go_minutes(seconds)} restarting failed container={name} "
            f"pod={metadata['name']}_{metadata.get('namespace')}({metadata['uid']})"
        )
        self._event(
            pod, path, "Warning", "BackOff",
            f"Back-off restarting failed container {name} in pod "
            f"{metadata['name']}_{metadata.get('namespace')}({metadata['uid']})",
        )  # fmt: skip
        result.waiting[name] = ("CrashLoopBackOff", text)
        result.wait_until(until)
        return True

    async def _create_and_start(
        self,
        pod: Obj,
        sandbox_id: str,
        start: ContainerToStart,
        container: Obj,
        newest: ContainerStatus | None,
        mounted: dict[str, MountedVolume],
        credentials: Credentials,
        path: str,
    ) -> None:
        uid = pod["metadata"]["uid"]
        image_id = await self._image_manager.ensure(pod, container, path, credentials)
        await self._check_user(pod, container, image_id)
        sandbox = self._cache.get(uid).sandbox
        ips = sandbox.ips if sandbox is not None else ()
        envs = await self._environments.make(pod, container, ips, mounted)
        attempt = self._next_attempt(pod, start.name, newest)
        mounts = await self._volumes.container_mounts(
            pod, self._with_sub_paths(container, envs), mounted, ips[0] if ips else "", attempt
        )
        mounted_images = {mount.image for mount in mounts if mount.image}
        await self._image_manager.ensure_volumes(pod, mounted_images, path, credentials)
        config = container_config(
            pod,
            container,
            start.kind,
            attempt=attempt,
            image_id=image_id,
            command=self._expanded(container.get("command"), envs),
            args=self._expanded(container.get("args"), envs),
            envs=envs,
            mounts=mounts,
            node_memory=self._node_memory,
            devices=self._volumes.container_devices(container, mounted),
        )
        if self._devices is not None:
            config = edited(config, await self._devices.edits(pod, container))
        container_id = await uninterrupted(self._run_container(pod, sandbox_id, config, path))
        await self._post_start(pod, container, container_id, ips)
        await self._remove_old(uid, start.name)

    def _next_attempt(self, pod: Obj, name: str, newest: ContainerStatus | None) -> int:
        """After the newest one; of removed ones the logs remain."""
        if newest is not None:
            return newest.attempt + 1
        try:
            logs = os.listdir(os.path.join(self.log_directory(pod), name))
        except OSError:
            return 0
        numbers = (log.partition(".")[0] for log in logs)
        return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)

    async def _run_container(
        self, pod: Obj, sandbox_id: str, config: ContainerConfig, path: str
    ) -> str:
        uid = pod["metadata"]["uid"]
        container_id = await self._runtime.create_container(sandbox_id, config)
        await self._cache.refresh_container(uid, container_id)
        self._event(pod, path, "Normal", "Created", "Container created")
        try:
            await self._runtime.start_container(container_id)
        except StartError as error:
            self._event(pod, path, "Warning", "Failed", f"Error: {error}")
            raise
        finally:
            await self._cache.refresh_container(uid, container_id)
        self._event(pod, path, "Normal", "Started", "Container started")
        return container_id

    async def _check_user(self, pod: Obj, container: Obj, image_id: str) -> None:
        image = await self._images.image_status(image_id)
        problem = non_root_problem(pod, container, image.user if image is not None else "")
        if problem:
            raise ContainerConfigError(problem)

    def _with_sub_paths(self, container: Obj, envs: list[tuple[str, str]]) -> Obj:
        """The container with each subPathExpr expanded into a subPath.

        :raises ContainerConfigError: a variable that does not exist.
        """
        mounts = container.get("volumeMounts") or ()
        if not any(mount.get("subPathExpr") for mount in mounts):
            return container
        variables = dict(envs)
        expanded = []
        for mount in mounts:
            if mount.get("subPathExpr"):
                sub_path = self._environments.expand(mount["subPathExpr"], variables)
                if "$(" in sub_path:
                    raise ContainerConfigError(f"missing value for {mount['subPathExpr']!r}")
                mount = mount | {"subPath": sub_path}
            expanded.append(mount)
        return container | {"volumeMounts": expanded}

    def _expanded(
        self, words: Sequence[str] | None, envs: list[tuple[str, str]]
    ) -> tuple[str, ...] | None:
        if not words:
            return None
        variables = dict(envs)
        return tuple(self._environments.expand(word, variables) for word in words)

    async def _post_start(
        self, pod: Obj, container: Obj, container_id: str, ips: tuple[str, ...]
    ) -> None:
        """A failed postStart hook kills the container. :raises HookError: it did."""
        handler = (container.get("lifecycle") or {}).get("postStart")
        if not handler:
            return
        try:
            await self._hooks.run(pod, container_id, handler, ips[0] if ips else "")
        except HookError:
            kill = ContainerToKill(container_id, container["name"], "FailedPostStartHook")
            await self._killer.kill_container(pod, kill, None)
            raise

    async def _remove_old(self, uid: str, name: str) -> None:
        """Keeps the newest container and ``KEPT_DEAD`` before it."""
        for old in (self._cache.get(uid).containers.get(name) or ())[1 + KEPT_DEAD :]:
            if old.state != "running":
                await self._runtime.remove_container(old.id)
                self.resizer.forget(old.id)
                await self._cache.refresh_container(uid, old.id)

    # -- the end -------------------------------------------------------------------------

    async def kill_pod(self, pod: Obj, grace_seconds: int | None) -> None:
        """Stops all running containers, then the sandboxes (``killing.py``)."""
        await self._killer.kill_pod(pod, grace_seconds)

    async def remove_pod(self, uid: str) -> None:
        """Removes what is left of a pod that has been stopped: containers and sandboxes."""
        sandboxes, containers = self._cache.ids(uid)
        for remove, ids in (
            (self._runtime.remove_container, containers),
            (self._runtime.remove_pod_sandbox, sandboxes),
        ):
            for id_ in ids:
                self.resizer.forget(id_)
                try:
                    await remove(id_)
                except NotFound:
                    pass
        self.resizer.forget_pod(uid)
        self._cache.forget(uid)


def _go_minutes(seconds: int) -> str:
    """A Go duration of whole seconds: 10s, 1m20s, 5m0s."""
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
