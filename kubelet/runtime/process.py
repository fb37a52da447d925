"""The ``process`` runtime: containers as plain processes, where nothing else is allowed.

Each has a session of its own and the host's network. With ``proot`` it sees its image's
filesystem (a merged copy) and its mounts; without, the host's, and mounts are missing. No limits,
no users, no isolation: for machines without root and without user namespaces. What an earlier
kubelet left running is ended at the start.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pilothouse.kubelet.runtime import errors
from pilothouse.kubelet.runtime.event_queue import EventFanout
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
from pilothouse.kubelet.runtime.oci import collect
from pilothouse.kubelet.runtime.process_child import (
    Child,
    OutputReader,
    require_program_in,
    session_usage,
    spawn,
)
from pilothouse.kubelet.runtime.process_container import Output, ProcessContainer
from pilothouse.kubelet.runtime.shim.logs import LogFile
from pilothouse.kubelet.runtime.shim.node import start_ticks
from pilothouse.kubelet.runtime.shim.spec import command_line, environment
from pilothouse.kubelet.runtime.shim.stdio import parse_signal, resize
from pilothouse.kubelet.runtime.streams import ProcessStream, open_writer, over_pipes

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.kubelet.images.service import LocalImageService

VERSION = "1.0.0"


class ProcessRuntime:
    """RuntimeService and ImageService of one node; one event loop."""

    def __init__(
        self,
        clock: Clock,
        random: random.Random,
        state_dir: str,
        images: LocalImageService,
        *,
        node_ip: str = "127.0.0.1",
    ) -> None:
        self._clock = clock
        self._random = random
        self._state_dir = state_dir
        self._images = images
        self._node_ip = node_ip
        self._proot = shutil.which("proot")
        self._sandboxes: dict[str, tuple[PodSandboxConfig, SandboxStatus]] = {}
        self._containers: dict[str, ProcessContainer] = {}
        self._events = EventFanout()
        os.makedirs(state_dir, exist_ok=True)
        self._end_leftovers()

    def _end_leftovers(self) -> None:
        try:
            with open(self._pids_file(), encoding="ascii") as file:
                leftovers = json.load(file)
        except (OSError, ValueError):
            return
        for pid, ticks in leftovers:
            if ticks and start_ticks(pid) == ticks:
                try:
                    os.killpg(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
        shutil.rmtree(os.path.join(self._state_dir, "containers"), ignore_errors=True)

    def _pids_file(self) -> str:
        return os.path.join(self._state_dir, "processes.json")

    def _save_pids(self) -> None:
        children = [c.child for c in self._containers.values() if c.child and c.child.code is None]
        with open(self._pids_file(), "w", encoding="ascii") as file:
            json.dump([[child.pid, child.ticks] for child in children], file)

    async def update_pod_cidr(self, cidr: str) -> None:
        """Pods have the host's address here."""

    async def shutdown(self, *, everything: bool) -> None:
        for sandbox_id in list(self._sandboxes) if everything else ():
            await self.remove_pod_sandbox(sandbox_id)
        await self.close()

    # --- RuntimeService

    async def info(self) -> RuntimeInfo:
        capabilities = Capabilities(
            pod_network=False,
            resource_limits=False,
            oom_detection=False,
            user_ids=False,
            image_filesystem=self._proot is not None,
        )
        return RuntimeInfo("process", VERSION, capabilities)

    async def run_pod_sandbox(self, config: PodSandboxConfig) -> str:
        status = SandboxStatus(
            id=self._new_id(),
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            state="ready",
            created_at=self._clock.time(),
            ips=(self._node_ip,),
            host_network=config.host_network,
            labels=config.labels,
            annotations=config.annotations,
        )
        self._sandboxes[status.id] = (config, status)
        self._emit(status.id, "", "sandbox")
        return status.id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        config, status = self._sandbox(sandbox_id)
        for container in self._of(sandbox_id):
            await self.stop_container(container.status.id, 0)
        if status.state == "ready":
            self._sandboxes[sandbox_id] = (config, replace(status, state="notready", ips=()))
            self._emit(sandbox_id, "", "sandbox")

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        if sandbox_id not in self._sandboxes:
            return
        await self.stop_pod_sandbox(sandbox_id)
        for container in self._of(sandbox_id):
            await self.remove_container(container.status.id)
        self._emit(sandbox_id, "", "deleted")
        del self._sandboxes[sandbox_id]

    async def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandbox(sandbox_id)[1]

    async def list_pod_sandboxes(self) -> list[SandboxStatus]:
        return [status for _, status in self._sandboxes.values()]

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox, sandbox_status = self._sandbox(sandbox_id)
        if sandbox_status.state != "ready":
            raise errors.StartError(f"sandbox {sandbox_id} is not running", "CreateContainerError")
        store = self._images.store
        record = store.find(config.image)
        if record is None:
            raise errors.NotFound(f"no such image: {config.image}")
        container_id = self._new_id()
        log_path = os.path.join(sandbox.log_directory, config.log_path) if config.log_path else ""
        status = ContainerStatus(
            id=container_id,
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            state="created",
            image=record.names[0] if record.names else config.image,
            image_id=record.id,
            created_at=self._clock.time(),
            log_path=log_path,
            labels=config.labels,
            annotations=config.annotations,
        )
        directory = os.path.join(self._state_dir, "containers", container_id)
        await asyncio.to_thread(os.makedirs, directory)
        container = ProcessContainer(config, status, directory)
        container.image = store.config(record.id).get("config") or {}
        if self._proot:
            rootfs = f"{directory}/rootfs"
            await asyncio.to_thread(os.makedirs, rootfs)
            await asyncio.to_thread(store.merge_into, record, rootfs)
        self._containers[container_id] = container
        self._emit(sandbox_id, container_id, "created")
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self._container(container_id)
        if container.status.state != "created":
            raise errors.StartError(f"container is {container.status.state}, not created")
        try:
            self._launch(container)
        except errors.StartError as error:
            self._finish(container, 128, "StartError", str(error))
            raise
        now = self._clock.time()
        assert container.child is not None
        pid = container.child.pid
        container.status = replace(container.status, state="running", started_at=now, pid=pid)
        self._save_pids()
        self._emit(container.status.sandbox_id, container_id, "started")

    def _launch(self, container: ProcessContainer) -> None:
        config = asdict(container.config)
        command = command_line(config, container.image)
        if not command:
            raise errors.StartError("no command specified")
        container.log = LogFile(container.status.log_path)
        child, ends = self._spawn(
            container, command, tty=config["tty"], stdin=config["stdin"], stdout=True, stderr=True
        )
        container.child = child
        streams = ["stdout", "stderr"]
        if config["tty"]:
            ends, streams = [os.dup(child.terminal)], ["stdout"]
            container.stdin = os.dup(child.terminal) if config["stdin"] else -1
        elif config["stdin"]:
            container.stdin = ends.pop(0)
        for stream, fd in zip(streams, ends, strict=True):
            output = Output(self._clock, stream, container.log)
            container.outputs[stream] = output
            container.readers.append(OutputReader(fd, output.feed))
        child.exited.add_done_callback(lambda code: self._exited(container, code.result()))

    def _spawn(
        self,
        container: ProcessContainer,
        command: list[str],
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> tuple[Child, list[int]]:
        """The child and our ends of its pipes, in order; none for a terminal."""
        config = asdict(container.config)
        hostname = self._sandboxes[container.status.sandbox_id][0].hostname
        pairs = environment(config, container.image, hostname, container.directory)
        variables = dict(pair.split("=", 1) for pair in pairs)
        directory = container.directory
        if self._proot:
            mounts = [mount.container_path for mount in container.config.mounts]
            if not command[0].startswith(tuple(f"{path}/" for path in mounts)):
                require_program_in(f"{directory}/rootfs", command[0], variables)
            command = [*container.proot_command(self._proot), *command]
        ours: list[int] = []
        theirs = [-1, -1, -1]
        for number, wanted in enumerate((stdin, stdout, stderr)):
            if wanted and not tty:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                theirs[number], mine = (reader, writer) if number == 0 else (writer, reader)
                ours.append(mine)
        try:
            ends = (theirs[0], theirs[1], theirs[2])
            return spawn(command, variables, directory, ends, tty=tty), ours
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                if fd >= 0:
                    os.close(fd)

    def _exited(self, container: ProcessContainer, code: int) -> None:
        for reader in container.readers:
            reader.drain()
        if container.child is not None:
            container.child.signal(signal.SIGKILL)  # what it left in its process group
        self._finish(container, code, "Error" if code else "Completed", "")
        self._save_pids()

    def _finish(self, container: ProcessContainer, code: int, reason: str, message: str) -> None:
        container.status = replace(
            container.status,
            state="exited",
            exit_code=code,
            reason=reason,
            message=message,
            finished_at=self._clock.time(),
            pid=0,
        )
        self._emit(container.status.sandbox_id, container.status.id, "stopped")

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        container = self._container(container_id)
        if container.status.state == "created":
            self._finish(container, 137, "Error", "")
        child = container.child
        if child is None or child.code is not None:
            return
        if grace_seconds <= 0:
            child.signal(signal.SIGKILL)
            await asyncio.shield(child.exited)
            return
        wanted = container.config.stop_signal or container.image.get("StopSignal") or "TERM"
        child.signal(parse_signal(wanted))
        timer = self._clock.call_later(grace_seconds, child.signal, signal.SIGKILL)
        try:
            await asyncio.shield(child.exited)
        finally:
            timer.cancel()

    async def remove_container(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container is None:
            return
        await self.stop_container(container_id, 0)
        for reader in container.readers:
            reader.close()
        if container.log is not None:
            container.log.close()
        for fd in (container.stdin, container.child.terminal if container.child else -1):
            if fd >= 0:
                os.close(fd)
        await asyncio.to_thread(shutil.rmtree, container.directory, ignore_errors=True)
        self._containers.pop(container_id, None)
        self._emit(container.status.sandbox_id, container_id, "deleted")

    async def container_status(self, container_id: str) -> ContainerStatus:
        return self._container(container_id).status

    async def list_containers(self) -> list[ContainerStatus]:
        return [container.status for container in self._containers.values()]

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        self._container(container_id)
        raise errors.Unsupported("plain processes have no limits")

    async def update_pod_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        raise errors.Unsupported("plain processes have no limits")

    async def reopen_container_log(self, container_id: str) -> None:
        log = self._container(container_id).log
        if log is not None:
            log.reopen()

    async def exec_sync(
        self, container_id: str, command: list[str], timeout: float
    ) -> tuple[bytes, bytes, int]:
        stream = await self.exec(
            container_id, command, tty=False, stdin=False, stdout=True, stderr=True
        )
        return await collect(stream, command, timeout)

    async def exec(
        self,
        container_id: str,
        command: list[str],
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> ProcessStream:
        container = self._running(container_id)
        child, fds = self._spawn(
            container, command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
        )

        async def exited() -> int:
            return await asyncio.shield(child.exited)

        async def kill() -> None:
            if child.code is None:
                child.signal(signal.SIGKILL)

        return await over_pipes(
            [child.terminal] if tty else fds,
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            exited=exited,
            kill=kill,
        )

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ProcessStream:
        container = self._running(container_id)
        child = container.child
        assert child is not None
        readers = {name: output.attach() for name, output in container.outputs.items()}
        writer = None
        if stdin and container.stdin >= 0:
            writer = open_writer(os.dup(container.stdin))
            if container.config.stdin_once:
                os.close(container.stdin)
                container.stdin = -1

        async def exited() -> int:
            await asyncio.gather(*(asyncio.shield(r.ended) for r in readers.values()))
            return 0

        async def detach() -> None:
            for name, reader in readers.items():
                if reader in container.outputs[name].readers:
                    container.outputs[name].readers.remove(reader)

        async def change_size(width: int, height: int) -> None:
            if child.terminal >= 0:
                resize(child.terminal, width, height)

        return ProcessStream(
            stdin=writer,
            stdout=readers.get("stdout") if stdout else None,
            stderr=readers.get("stderr") if stderr and not tty else None,
            transports=[],
            exited=exited,
            kill=detach,
            resize=change_size,
        )

    async def port_forward(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._sandbox(sandbox_id)
        return await asyncio.open_connection("127.0.0.1", port)

    async def container_stats(self, container_id: str) -> ContainerStats:
        container = self._container(container_id)
        cpu = memory = 0
        if container.child is not None and container.child.code is None:
            cpu, memory = await asyncio.to_thread(session_usage, container.child.pid)
        return ContainerStats(container_id, self._clock.time(), cpu, memory, memory)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return self._events.listen()

    async def close(self) -> None:
        self._events.close()

    # --- ImageService

    async def pull_image(self, reference: str, auth: PullAuth | None) -> str:
        return await self._images.pull_image(reference, auth)

    async def image_status(self, reference: str) -> Image | None:
        return await self._images.image_status(reference)

    async def list_images(self) -> list[Image]:
        return await self._images.list_images()

    async def remove_image(self, reference: str) -> None:
        await self._images.remove_image(reference)

    # --- inside

    def _emit(self, sandbox_id: str, container_id: str, kind: str) -> None:
        uid = self._sandboxes[sandbox_id][0].uid
        self._events.emit(RuntimeEvent(sandbox_id, uid, container_id, kind))  # type: ignore[arg-type]

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(256):064x}"

    def _sandbox(self, sandbox_id: str) -> tuple[PodSandboxConfig, SandboxStatus]:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise errors.NotFound(f"no such sandbox: {sandbox_id}") from None

    def _of(self, sandbox_id: str) -> list[ProcessContainer]:
        return [c for c in list(self._containers.values()) if c.status.sandbox_id == sandbox_id]

    def _container(self, container_id: str) -> ProcessContainer:
        try:
            return self._containers[container_id]
        except KeyError:
            raise errors.NotFound(f"no such container: {container_id}") from None

    def _running(self, container_id: str) -> ProcessContainer:
        container = self._container(container_id)
        if container.status.state != "running":
            raise errors.NotFound(f"container {container_id} is not running")
        return container
