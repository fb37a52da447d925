"""The two control planes: how to reach them, and how time passes in them.

Upstream's runs in real time: a namespace is quiet when nothing in it changed for a while. Ours runs
in this process on a virtual clock, so that the same waiting costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hack.bench import targets
from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.virtual_clock import VirtualClock
from pilothouse.cluster.config import ClusterConfig
from pilothouse.cluster.core import ClusterCore
from pilothouse.cluster.virtual_time import advance
from pilothouse.controllermanager.config import ControllerManagerConfig
from pilothouse.kubeclient import resources
from pilothouse.kubeclient.https import HTTPSClient
from pilothouse.kubeclient.interfaces import Component, Environment, ListOptions
from pilothouse.kubeclient.kubeconfig import ClientConfig

AGENT = "scenario"
_UNWATCHED = ("leases", "localsubjectaccessreviews", "subjectaccessreviews")
WATCHED = tuple(
    resource
    for resource in resources.KIND_OF
    if resource.resource not in _UNWATCHED and resource != resources.EVENTS_V1
)
_LIMIT = 90.0
"""Seconds until quiet is given up: something there never ends."""


@dataclass(frozen=True)
class Settings:
    """What both control planes of a file of scenarios are told."""

    controllers: dict[str, float]
    """Flags of the controller manager: seconds, or numbers."""
    scheduler: str = ""
    """A KubeSchedulerConfiguration."""


class World(Protocol):
    """A control plane with a client of it; ``client`` is an administrator's."""

    client: Any
    at_once: int
    """How many scenarios may run side by side."""

    def now(self) -> datetime: ...

    async def pass_time(self, seconds: float) -> None: ...

    async def quiet(self, namespace: str, seconds: float) -> None:
        """Returns when nothing changed for ``seconds``; "": anywhere."""
        ...


class Ours:
    at_once = 1

    def __init__(self, core: ClusterCore) -> None:
        self._core = core
        self.client = core.client.with_user_agent(AGENT)

    def now(self) -> datetime:
        return self._core.clock.now()

    async def pass_time(self, seconds: float) -> None:
        await advance(self._core, seconds)

    async def quiet(self, namespace: str, seconds: float) -> None:
        for _ in range(20):
            await self._core.settle()
            before = await self._revision()
            await advance(self._core, seconds)
            if await self._revision() == before:
                return

    async def _revision(self) -> str:
        nothing = ListOptions(limit=1)
        listed = await self.client.list(resources.RUNTIME_CLASSES, options=nothing)
        return str(listed.resource_version)


class Upstream:
    at_once = 8

    def __init__(self, client: HTTPSClient) -> None:
        self.client = client
        self._changed: dict[str, float] = defaultdict(time.monotonic)
        self._tasks: list[asyncio.Task[None]] = []

    def now(self) -> datetime:
        return RealClock().now()

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def quiet(self, namespace: str, seconds: float) -> None:
        began = time.monotonic()
        self._changed[namespace] = began
        while time.monotonic() - self._changed[namespace] < seconds:
            await asyncio.sleep(0.05)
            if time.monotonic() - began > _LIMIT:
                return

    async def follow(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(resource)) for resource in WATCHED]

    async def _follow(self, resource: GroupVersionResource) -> None:
        while True:
            try:
                watch = await self.client.watch(resource, send_initial_events=True)
                async for batch in watch:
                    for event in batch:
                        if event.type != "BOOKMARK":
                            self._note(event.object["metadata"].get("namespace", ""))
            except StatusError as error:
                if error.code == 404:  # not served by default
                    return
                await asyncio.sleep(0.5)

    def _note(self, namespace: str) -> None:
        self._changed[namespace] = self._changed[""] = time.monotonic()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()


class _Core(ClusterCore):
    """Our control plane as upstream's is made: no provisioner, no storage class of its own."""

    def __init__(self, config: ClusterConfig, settings: Settings, clock: VirtualClock) -> None:
        super().__init__(config, clock=clock, merge_context=False)
        self._settings = settings

    def _controller_manager(self, environment: Environment) -> Component:
        made: Any = super()._controller_manager(environment)
        config: ControllerManagerConfig = made._config
        told = {key.replace("-", "_"): value for key, value in self._settings.controllers.items()}
        made._config = replace(config, local_path_root="", **told)  # type: ignore[arg-type]
        return made  # type: ignore[no-any-return]

    async def _make_default_storage_class(self) -> None:
        return


@contextlib.asynccontextmanager
async def ours(settings: Settings) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="pilothouse-differential-") as folder:
        config = ClusterConfig(
            name="differential", nodes=0, runtime="fake", storage="memory", port=0, seed=1,
            proxy_mode="none", data_dir=folder, resource_metrics=False,
            components=("apiserver", "scheduler", "controller-manager"),
            scheduler_config=_written(Path(folder), settings),
        )  # fmt: skip
        clock = VirtualClock(RealClock().now().replace(microsecond=0))
        core = _Core(config, settings, clock)
        try:
            await core.start()
            yield Ours(core)
        finally:
            await core.stop()


@contextlib.asynccontextmanager
async def upstream(settings: Settings) -> AsyncIterator[World]:
    manager = [f"--{key}={_flag(key, value)}" for key, value in settings.controllers.items()]
    flags = {"controller-manager": [*manager, "--controllers=*,bootstrapsigner,tokencleaner"]}
    with tempfile.TemporaryDirectory(prefix="pilothouse-differential-") as folder:
        if config := _written(Path(folder), settings):
            flags["scheduler"] = [f"--config={config}"]
        target = await asyncio.to_thread(
            targets.reference, "controller-manager", "scheduler", flags=flags
        )
        world = Upstream(HTTPSClient(_client_config(target)))
        try:
            await _ready(world)
            await world.follow()
            yield world
        finally:
            await world.close()
            await asyncio.to_thread(target.close)


def _written(folder: Path, settings: Settings) -> str:
    """The file of the scheduler's configuration, if there is any."""
    if not settings.scheduler:
        return ""
    path = folder / "scheduler.yaml"
    path.write_text(settings.scheduler)
    return str(path)


def _flag(key: str, value: float) -> str:
    whole = "rate" in key or "threshold" in key or "tolerance" in key or "burst" in key
    return f"{value:g}" if whole else f"{value:g}s"


def _client_config(target: targets.Target) -> ClientConfig:
    pki = Path(target.cert).parent / "pki"
    ca, cert, key = (
        Path(path).read_bytes() for path in (target.ca, pki / "admin.crt", pki / "admin.key")
    )
    server = f"https://{target.host}:{target.port}"
    return ClientConfig(server, ca, cert, key, timeout=60, user_agent=f"{AGENT}/1")


async def _ready(world: World) -> None:
    """The controllers work when the namespace ``default`` has its account and its bundle."""
    for _ in range(600):
        with contextlib.suppress(StatusError):
            await world.client.get(resources.SERVICE_ACCOUNTS, "default", "default")
            await world.client.get(resources.CONFIG_MAPS, "kube-root-ca.crt", "default")
            await asyncio.sleep(3.0)
            return
        await asyncio.sleep(0.1)
    raise targets.NotAvailable("kube-controller-manager does not work")
