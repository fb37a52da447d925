"""The contract of RuntimeService and ImageService, as checks that any implementation must pass.

A check is an async function of a :class:`ContractEnvironment`; ``@needs`` names the capabilities
without which it says nothing. ``applicable(capabilities)`` gives the names to run, ``run`` runs
one. Every check cleans up what it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.runtime.interfaces import (
    Capabilities,
    ContainerConfig,
    ContainerStatus,
    PodSandboxConfig,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TIMEOUT = 20.0
FOREVER = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done")


@dataclass(slots=True)
class ContractEnvironment:
    """``runtime`` implements both services; ``image`` is the id of a busybox image of it."""

    runtime: Any
    image: str
    directory: str
    capabilities: Capabilities
    count: int = 0
    made: list[str] = field(default_factory=list)

    async def sandbox(self, **changes: Any) -> str:
        self.count += 1
        name = f"pod-{self.count}"
        config: dict[str, Any] = {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{self.count}",
            "attempt": 0,
            "hostname": name,
            "log_directory": os.path.join(self.directory, name),
            **changes,
        }
        sandbox_id: str = await self.runtime.run_pod_sandbox(PodSandboxConfig(**config))
        self.made.append(sandbox_id)
        return sandbox_id

    async def container(
        self, sandbox_id: str, command: tuple[str, ...] = FOREVER, **changes: Any
    ) -> str:
        """Created, not started."""
        values: dict[str, Any] = {"name": "main", "attempt": 0, "log_path": "main/0.log", **changes}
        config = ContainerConfig(image=self.image, command=command, **values)
        created: str = await self.runtime.create_container(sandbox_id, config)
        return created

    async def running(self, command: tuple[str, ...] = FOREVER, **changes: Any) -> str:
        container_id = await self.container(await self.sandbox(), command, **changes)
        await self.runtime.start_container(container_id)
        return container_id

    async def finished(self, command: tuple[str, ...], **changes: Any) -> ContainerStatus:
        """Runs ``command`` to its end."""
        container_id = await self.container(await self.sandbox(), command, **changes)
        async with self.ending(container_id) as status:
            await self.runtime.start_container(container_id)
        return status[0]

    @contextlib.asynccontextmanager
    async def ending(self, container_id: str) -> AsyncIterator[list[ContainerStatus]]:
        """Waits, after the block, until the container has exited; its status is in the list."""
        status: list[ContainerStatus] = []
        events = self.runtime.events()
        try:
            yield status
            async with asyncio.timeout(TIMEOUT):
                status.append(await self._exited(container_id, events))
        finally:
            await events.aclose()

    async def _exited(self, container_id: str, events: AsyncIterator[Any]) -> ContainerStatus:
        status: ContainerStatus = await self.runtime.container_status(container_id)
        while status.state != "exited":
            await anext(events)
            status = await self.runtime.container_status(container_id)
        return status

    async def clean(self) -> None:
        for sandbox_id in self.made:
            await self.runtime.remove_pod_sandbox(sandbox_id)
        self.made.clear()


_CHECKS: dict[str, tuple[Callable[[ContractEnvironment], Awaitable[None]], tuple[str, ...]]] = {}


def needs(
    *capabilities: str,
) -> Callable[
    [Callable[[ContractEnvironment], Awaitable[None]]],
    Callable[[ContractEnvironment], Awaitable[None]],
]:
    """Registers a check that only says something about runtimes with ``capabilities``."""

    def register(
        check: Callable[[ContractEnvironment], Awaitable[None]],
    ) -> Callable[[ContractEnvironment], Awaitable[None]]:
        _CHECKS[check.__name__] = (check, capabilities)
        return check

    return register


def all_checks() -> list[str]:
    """Names of all checks, in order."""
    from pilothouse.kubelet.runtime import (  # noqa: F401
        testing_isolation,
        testing_lifecycle,
        testing_streams,
        testing_users,
    )

    return list(_CHECKS)


def applicable(name: str, capabilities: Capabilities) -> bool:
    return all(getattr(capabilities, need) for need in _CHECKS[name][1])


async def run(name: str, environment: ContractEnvironment) -> None:
    """Runs one check and cleans up; an assertion or exception is the failure."""
    try:
        await _CHECKS[name][0](environment)
    finally:
        await environment.clean()


@contextlib.contextmanager
def raises(kind: type[BaseException]) -> Any:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


async def logged(env: ContractEnvironment, container_id: str, text: str) -> None:
    """Waits until the log has ``text``: attached output would miss what came before."""
    path = (await env.runtime.container_status(container_id)).log_path
    async with asyncio.timeout(TIMEOUT):
        while text not in read_text(path):
            await env.runtime.exec_sync(container_id, ["sleep", "0.02"], 5)


def exists(path: str) -> bool:
    return os.path.exists(path)


def write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while piece := await reader.read(1 << 16):
        data += piece
    return data
