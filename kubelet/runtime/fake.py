"""A runtime without processes: sandboxes and containers as records with a clock.

For control-plane and scale tests: no task and no file per container; timers only for scripted
latencies and exits (``fake_script.py``). Events go straight into each listener's queue. It also
is the :class:`ImageService`: a reference exists when the settable rule says so.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilothouse.kubelet.images import reference
from pilothouse.kubelet.network.ipam import AddressPool
from pilothouse.kubelet.runtime.errors import ExecTimeout, ImagePullError, NotFound, StartError
from pilothouse.kubelet.runtime.event_queue import EventFanout
from pilothouse.kubelet.runtime.fake_script import (
    ContainerBehaviour,
    default_script,
    image_is_known,
)
from pilothouse.kubelet.runtime.fake_stream import FakeStream
from pilothouse.kubelet.runtime.interfaces import (
    Capabilities,
    ContainerConfig,
    ContainerStats,
    ContainerStatus,
    Image,
    PodSandboxConfig,
    PullAuth,
    Resources,
    RuntimeEvent,
    RuntimeInfo,
    SandboxStatus,
)

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from pilothouse.apimachinery.clock import Clock, TimerHandle

VERSION = "1.0.0"
FAKE_IMAGE_SIZE = 1 << 20


@dataclass(slots=True)
class _Sandbox:
    config: PodSandboxConfig
    status: SandboxStatus


class _Container:
    __slots__ = ("behaviour", "config", "ended", "resources", "status", "timer")

    def __init__(
        self, config: ContainerConfig, behaviour: ContainerBehaviour, status: ContainerStatus
    ) -> None:
        self.config = config
        self.behaviour = behaviour
        self.status = status
        self.resources = config.resources
        self.timer: TimerHandle | None = None
        self.ended: list[asyncio.Future[None]] = []


class FakeRuntime:
    """RuntimeService and ImageService; one instance per fake node, one event loop."""

    def __init__(
        self,
        clock: Clock,
        random: random.Random,
        *,
        pod_cidr: str = "10.244.0.0/16",
        node_ip: str = "127.0.0.1",
        script: Callable[[PodSandboxConfig, ContainerConfig], ContainerBehaviour] = default_script,
        image_known: Callable[[str], bool] = image_is_known,
        pull_latency: float = 0.0,
    ) -> None:
        self._clock = clock
        self._random = random
        self._pool = AddressPool(pod_cidr)
        self.node_ip = node_ip
        self.script = script
        self.image_known = image_known
        self.pull_latency = pull_latency
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        self._by_sandbox: dict[str, dict[str, None]] = {}
        self._images: dict[str, Image] = {}
        self._events = EventFanout()
        self.pod_resources: dict[str, Resources] = {}
        """By sandbox: what a resize gave it."""

    # --- RuntimeService: sandboxes

    async def info(self) -> RuntimeInfo:
        capabilities = Capabilities(
            pod_network=False,
            resource_limits=False,
            oom_detection=False,
            user_ids=False,
            image_filesystem=False,
            tty=False,
            real_processes=False,
        )
        return RuntimeInfo("fake", VERSION, capabilities)

    async def update_pod_cidr(self, cidr: str) -> None:
        """New sandboxes get addresses of ``cidr``; running ones keep theirs."""
        if str(self._pool.network) != cidr:
            self._pool = AddressPool(cidr)

    async def run_pod_sandbox(self, config: PodSandboxConfig) -> str:
        sandbox_id = self._new_id()
        ip = self.node_ip if config.host_network else self._pool.allocate(sandbox_id)
        status = SandboxStatus(
            id=sandbox_id,
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            state="ready",
            created_at=self._clock.time(),
            ips=(ip,),
            host_network=config.host_network,
            labels=config.labels,
            annotations=config.annotations,
        )
        self._sandboxes[sandbox_id] = _Sandbox(config, status)
        self._by_sandbox[sandbox_id] = {}
        self._emit(sandbox_id, "", "sandbox")
        return sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandbox(sandbox_id)
        if sandbox.status.state == "notready":
            return
        for container_id in self._by_sandbox[sandbox_id]:
            self._end(container_id, 137)
        self._pool.release(sandbox_id)
        sandbox.status = replace(sandbox.status, state="notready", ips=())
        self._emit(sandbox_id, "", "sandbox")

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        if sandbox_id not in self._sandboxes:
            return
        await self.stop_pod_sandbox(sandbox_id)
        for container_id in list(self._by_sandbox[sandbox_id]):
            await self.remove_container(container_id)
        self._emit(sandbox_id, "", "deleted")
        del self._sandboxes[sandbox_id], self._by_sandbox[sandbox_id]

    async def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandbox(sandbox_id).status

    async def list_pod_sandboxes(self) -> list[SandboxStatus]:
        return [sandbox.status for sandbox in self._sandboxes.values()]

    # --- RuntimeService: containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox = self._sandbox(sandbox_id)
        if sandbox.status.state != "ready":
            raise StartError(f"sandbox {sandbox_id} is not running", "CreateContainerError")
        image = self._image_by_id(config.image)
        if image is None:
            raise NotFound(f"no such image: {config.image}")
        container_id = self._new_id()
        status = ContainerStatus(
            id=container_id,
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            state="created",
            image=image.repo_tags[0] if image.repo_tags else config.image,
            image_id=image.id,
            created_at=self._clock.time(),
            log_path=f"{sandbox.config.log_directory}/{config.log_path}" if config.log_path else "",
            labels=config.labels,
            annotations=config.annotations,
        )
        behaviour = self.script(sandbox.config, config)
        self._containers[container_id] = _Container(config, behaviour, status)
        self._by_sandbox[sandbox_id][container_id] = None
        self._emit(sandbox_id, container_id, "created")
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        behaviour = container.behaviour
        if behaviour.start_latency:
            await self._clock.sleep(behaviour.start_latency)
        if container.status.state != "created" or container_id not in self._containers:
            raise StartError(f"container {container_id} is not in created state")
        if behaviour.start_error:
            self._end(container_id, 128, "StartError", behaviour.start_error)
            raise StartError(behaviour.start_error)
        container.status = replace(container.status, state="running", started_at=self._clock.time())
        self._emit(container.status.sandbox_id, container_id, "started")
        if behaviour.run_for is None:
            return
        if behaviour.run_for <= 0:
            self._end(container_id, behaviour.exit_code)
            return
        container.timer = self._clock.call_later(
            behaviour.run_for, self._end, container_id, behaviour.exit_code
        )

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        container = self._container(container_id)
        latency = container.behaviour.stop_latency
        if latency and container.status.state == "running":
            await self._clock.sleep(min(latency, grace_seconds))
        graceful = latency <= grace_seconds
        self._end(container_id, container.behaviour.stop_exit_code if graceful else 137)

    async def remove_container(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container is None:
            return
        self._end(container_id, 137)
        del self._containers[container_id]
        del self._by_sandbox[container.status.sandbox_id][container_id]
        self._emit(container.status.sandbox_id, container_id, "deleted")

    async def container_status(self, container_id: str) -> ContainerStatus:
        return self._container(container_id).status

    async def list_containers(self) -> list[ContainerStatus]:
        return [container.status for container in self._containers.values()]

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        self._container(container_id).resources = resources

    async def update_pod_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        self.pod_resources[sandbox_id] = resources

    async def reopen_container_log(self, container_id: str) -> None:
        self._container(container_id)

    async def exec_sync(
        self, container_id: str, command: list[str], timeout: float
    ) -> tuple[bytes, bytes, int]:
        behaviour = self._running(container_id).behaviour
        if timeout and behaviour.exec_latency > timeout:
            await self._clock.sleep(timeout)
            raise ExecTimeout(f"command {command!r} timed out")
        if behaviour.exec_latency:
            await self._clock.sleep(behaviour.exec_latency)
        return behaviour.exec_output.encode(), b"", behaviour.exec_exit_code

    async def exec(
        self,
        container_id: str,
        command: list[str],
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> FakeStream:
        behaviour = self._running(container_id).behaviour
        stream = FakeStream(stdin=stdin, stdout=stdout, stderr=stderr and not tty)
        stream.finish(behaviour.exec_output.encode(), behaviour.exec_exit_code)
        return stream

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> FakeStream:
        container = self._running(container_id)
        stream = FakeStream(stdin=stdin, stdout=stdout, stderr=stderr and not tty)
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: stream.finish(b"", 0))
        container.ended.append(future)
        return stream

    async def port_forward(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._sandbox(sandbox_id)
        raise ConnectionRefusedError(f"fake pods listen on no port: {port}")

    async def container_stats(self, container_id: str) -> ContainerStats:
        self._container(container_id)
        return ContainerStats(container_id, self._clock.time(), 0, 0, 0, 0)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return self._events.listen()

    async def close(self) -> None:
        for container in self._containers.values():
            if container.timer is not None:
                container.timer.cancel()
        self._events.close()

    # --- ImageService

    async def pull_image(self, reference_text: str, auth: PullAuth | None) -> str:
        if self.pull_latency:
            await self._clock.sleep(self.pull_latency)
        if not self.image_known(reference_text):
            raise ImagePullError(
                f'failed to pull and unpack image "{reference_text}": failed to resolve reference '
                f'"{reference_text}": {reference_text}: not found'
            )
        ref = reference.parse(reference_text)
        digest = f"sha256:{hashlib.sha256(str(ref).encode()).hexdigest()}"
        tags = (ref.tagged,) if ref.tag else ()
        image = Image(digest, tags, (f"{ref.repository}@{digest}",), FAKE_IMAGE_SIZE)
        self._images[digest] = image
        return digest

    async def image_status(self, reference_text: str) -> Image | None:
        return self._image_by_id(reference_text) or self._image_by_name(reference_text)

    async def list_images(self) -> list[Image]:
        return list(self._images.values())

    async def remove_image(self, reference_text: str) -> None:
        image = await self.image_status(reference_text)
        if image is not None:
            del self._images[image.id]

    # --- inside

    def finish_container(self, container_id: str, exit_code: int, reason: str = "") -> None:
        """For tests: the container ends now by itself."""
        self._container(container_id)
        self._end(container_id, exit_code, reason)

    def _end(self, container_id: str, code: int, reason: str = "", message: str = "") -> None:
        container = self._containers.get(container_id)
        if container is None or container.status.state == "exited":
            return
        if container.timer is not None:
            container.timer.cancel()
            container.timer = None
        container.status = replace(
            container.status,
            state="exited",
            exit_code=code,
            finished_at=self._clock.time(),
            reason=reason or ("Completed" if code == 0 else "Error"),
            message=message,
        )
        for future in container.ended:
            if not future.done():
                future.set_result(None)
        container.ended.clear()
        self._emit(container.status.sandbox_id, container_id, "stopped")

    def _emit(self, sandbox_id: str, container_id: str, kind: str) -> None:
        uid = self._sandboxes[sandbox_id].config.uid
        self._events.emit(RuntimeEvent(sandbox_id, uid, container_id, kind))  # type: ignore[arg-type]

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(256):064x}"

    def _sandbox(self, sandbox_id: str) -> _Sandbox:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise NotFound(f"no such sandbox: {sandbox_id}") from None

    def _container(self, container_id: str) -> _Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFound(f"no such container: {container_id}") from None

    def _running(self, container_id: str) -> _Container:
        container = self._container(container_id)
        if container.status.state != "running":
            raise NotFound(f"container {container_id} is not running")
        return container

    def _image_by_id(self, text: str) -> Image | None:
        return self._images.get(text) or self._images.get(f"sha256:{text}")

    def _image_by_name(self, text: str) -> Image | None:
        try:
            ref = reference.parse(text)
        except reference.InvalidReference:
            return None
        for image in self._images.values():
            if ref.digest and ref.by_digest in image.repo_digests:
                return image
            if not ref.digest and ref.tagged in image.repo_tags:
                return image
        return None
