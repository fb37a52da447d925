"""The ``oci`` runtime: RuntimeService over a node's shim, ImageService over the machine's store."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.runtime import errors
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
from pilothouse.kubelet.runtime.shim_client import ShimClient, ShimConfig
from pilothouse.kubelet.runtime.streams import ProcessStream, open_socket, over_pipes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.kubelet.images.service import LocalImageService

MAX_EXEC_OUTPUT = 16 << 20


class OCIRuntime:
    """RuntimeService and ImageService of one node. ``close`` leaves shim and pods running."""

    def __init__(self, config: ShimConfig, images: LocalImageService) -> None:
        self._client = ShimClient(config)
        self._images = images
        self._info: RuntimeInfo | None = None

    # --- beside the interface

    async def start(self) -> None:
        """Finds the node's shim or starts it. :raises RuntimeUnavailable: with the reason."""
        await self._client.connect()

    async def update_pod_cidr(self, cidr: str) -> None:
        """Sandboxes get addresses of ``cidr``; before that, only host-network ones can run."""
        self._client.config.pod_cidr = cidr
        await self._client.call("set_pod_cidr", cidr=cidr)

    async def network_ready(self) -> bool:
        return bool((await self._client.call("info"))["network"])

    async def shim_pid(self) -> int:
        return int((await self._client.call("info"))["pid"])

    async def mount_tmpfs(
        self, path: str, size: int = 0, mode: int = 0o777, group: int = 0
    ) -> None:
        """A tmpfs at ``path`` of the node for containers to bind (emptyDir in memory), if there
        is none. The end of the shim with everything is its end, too."""
        await self._client.call("mount_tmpfs", path=path, size=size, mode=mode, gid=group)

    async def show_mount(self, path: str) -> None:
        """What the kubelet has mounted at ``path`` is seen by containers, too."""
        await self._client.call("show_mount", path=path)

    async def unmount(self, path: str) -> None:
        await self._client.call("unmount", path=path)

    async def shutdown(self, *, everything: bool) -> None:
        """Ends the shim; with ``everything`` all pods, their namespaces and cgroups before."""
        containers = [c.id for c in await self.list_containers()] if everything else []
        await self._client.call("shutdown", everything=everything)
        for container_id in containers:
            self._images.store.release(container_id)
        self._client.close()

    async def self_test(self) -> None:
        """Really runs a container (``true`` of the built-in busybox), in about 30 ms.

        :raises RuntimeFailure: with crun's own reason.
        """
        image = await self.image_status("busybox")
        if image is None:
            return
        log_directory = os.path.join(self._client.config.state_dir, "self-test")
        sandbox_id = await self.run_pod_sandbox(
            PodSandboxConfig(
                "self-test", "", "self-test", 0, "self-test", log_directory, host_network=True
            )
        )
        try:
            config = ContainerConfig("self-test", 0, image.id, command=("true",))
            await self.start_container(await self.create_container(sandbox_id, config))
        finally:
            await self.remove_pod_sandbox(sandbox_id)

    # --- RuntimeService

    async def info(self) -> RuntimeInfo:
        if self._info is None:
            facts = await self._client.call("info")
            limits = facts["cgroups"] != "disabled"
            capabilities = Capabilities(
                resource_limits=limits, oom_detection=limits, user_ids=not facts["rootless"],
                user_namespaces=bool(facts.get("user_namespaces")),
            )  # fmt: skip
            version = await _crun_version(facts["crun"])
            self._info = RuntimeInfo("crun", version, capabilities)
        return self._info

    async def run_pod_sandbox(self, config: PodSandboxConfig) -> str:
        return str(await self._client.call("run_pod_sandbox", config=asdict(config)))

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        await self._client.call("stop_pod_sandbox", id=sandbox_id)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        containers = [c.id for c in await self.list_containers() if c.sandbox_id == sandbox_id]
        await self._client.call("remove_pod_sandbox", id=sandbox_id)
        for container_id in containers:
            self._images.store.release(container_id)

    async def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return _sandbox(await self._client.call("pod_sandbox_status", id=sandbox_id))

    async def list_pod_sandboxes(self) -> list[SandboxStatus]:
        return [_sandbox(status) for status in await self._client.call("list_pod_sandboxes")]

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        store = self._images.store
        record = store.find(config.image)
        if record is None:
            raise errors.NotFound(f"no such image: {config.image}")
        image = {
            "id": record.id,
            "reference": record.names[0] if record.names else config.image,
            "layers": store.layer_paths(record),
            "config": store.config(record.id).get("config") or {},
        }
        used = list(record.layers)
        wanted = asdict(config)
        for mount in wanted["mounts"]:
            if mount["image"]:
                mounted = store.find(mount["image"])
                if mounted is None:
                    raise errors.NotFound(f"no such image: {mount['image']}")
                mount["layers"] = store.layer_paths(mounted)
                used += mounted.layers
        created: str = await self._client.call(
            "create_container", sandbox_id=sandbox_id, config=wanted, image=image
        )
        directory = os.path.join(self._client.config.state_dir, "containers", created)
        store.lease(created, used, directory)
        return created

    async def start_container(self, container_id: str) -> None:
        await self._client.call("start_container", id=container_id)

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        await self._client.call("stop_container", id=container_id, grace=grace_seconds)

    async def remove_container(self, container_id: str) -> None:
        await self._client.call("remove_container", id=container_id)
        self._images.store.release(container_id)

    async def container_status(self, container_id: str) -> ContainerStatus:
        return ContainerStatus(**await self._client.call("container_status", id=container_id))

    async def list_containers(self) -> list[ContainerStatus]:
        return [ContainerStatus(**c) for c in await self._client.call("list_containers")]

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        await self._client.call(
            "update_container_resources", id=container_id, resources=asdict(resources)
        )

    async def update_pod_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        await self._client.call(
            "update_pod_sandbox_resources", id=sandbox_id, resources=asdict(resources)
        )

    async def reopen_container_log(self, container_id: str) -> None:
        await self._client.call("reopen_container_log", id=container_id)

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
        answer, fds = await self._client.call_fds(
            "exec",
            container_id=container_id,
            command=command,
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        exec_id = answer["exec_id"]
        code = await self._client.send("exec_wait", exec_id=exec_id)

        async def exited() -> int:
            return int((await asyncio.shield(code))[0])

        async def kill() -> None:
            if not code.done():
                await self._client.call("exec_kill", exec_id=exec_id)

        return await over_pipes(
            fds, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr, exited=exited, kill=kill
        )

    async def attach(
        self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> ProcessStream:
        wanted = {"stdin": stdin, "stdout": stdout or not stderr, "stderr": stderr and not tty}
        answer, fds = await self._client.call_fds("attach", container_id=container_id, **wanted)
        queue = list(fds)
        writer = None
        pairs = {}
        if answer["stdin"]:
            _, writer = await open_socket(queue.pop(0))
        for name in ("stdout", "stderr"):
            if wanted[name] and queue:
                pairs[name] = await open_socket(queue.pop(0))

        async def exited() -> int:
            for reader, _ in pairs.values():
                await asyncio.shield(reader.ended)
            return 0

        async def nothing() -> None:
            pass

        async def resize(width: int, height: int) -> None:
            await self._client.call("resize", id=container_id, width=width, height=height)

        return ProcessStream(
            stdin=writer,
            stdout=pairs["stdout"][0] if stdout and "stdout" in pairs else None,
            stderr=pairs["stderr"][0] if "stderr" in pairs else None,
            transports=[pair[1].transport for pair in pairs.values()],
            exited=exited,
            kill=nothing,
            resize=resize,
        )

    async def port_forward(
        self, sandbox_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        _, fds = await self._client.call_fds("port_forward", id=sandbox_id, port=port)
        return await open_socket(fds[0])

    async def container_stats(self, container_id: str) -> ContainerStats:
        return ContainerStats(**await self._client.call("container_stats", id=container_id))

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return self._client.events.listen()

    async def close(self) -> None:
        self._client.close()

    # --- ImageService

    async def pull_image(self, reference: str, auth: PullAuth | None) -> str:
        return await self._images.pull_image(reference, auth)

    async def image_status(self, reference: str) -> Image | None:
        return await self._images.image_status(reference)

    async def list_images(self) -> list[Image]:
        return await self._images.list_images()

    async def remove_image(self, reference: str) -> None:
        await self._images.remove_image(reference)


def _sandbox(status: dict[str, Any]) -> SandboxStatus:
    return SandboxStatus(**{**status, "ips": tuple(status["ips"])})


async def collect(
    stream: ProcessStream, command: list[str], timeout: float
) -> tuple[bytes, bytes, int]:
    """Everything a process writes, and its exit code. Afterwards it is dead.

    :raises ExecTimeout: ``timeout`` (seconds; 0: none) is over.
    """
    try:
        async with asyncio.timeout(timeout or None):
            out, err, code = await asyncio.gather(
                _read_limited(stream.stdout), _read_limited(stream.stderr), stream.wait()
            )
            return out, err, code
    except TimeoutError:
        text = " ".join(command)
        raise errors.ExecTimeout(
            f'command "{text}" timed out: timeout {timeout:g}s exceeded'
        ) from None
    finally:
        await stream.kill()


async def _read_limited(reader: asyncio.StreamReader | None) -> bytes:
    kept = bytearray()
    while reader is not None and (data := await reader.read(1 << 16)):
        kept += data[: max(0, MAX_EXEC_OUTPUT - len(kept))]
    return bytes(kept)


async def _crun_version(binary: str) -> str:
    process = await asyncio.create_subprocess_exec(
        binary, "--version", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    found = re.search(r"version (\S+)", output.decode(errors="replace"))
    return found.group(1) if found else "unknown"
