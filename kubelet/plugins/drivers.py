"""The DRA drivers of a node: who is registered, who is connected, and what their devices' health
is. A driver that stays away for 30 s loses its ResourceSlices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pilothouse.apimachinery.clock import Clock, TimerHandle
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.interfaces import Client, ListOptions
from pilothouse.kubeclient.resources import RESOURCE_SLICES
from pilothouse.kubelet.plugins.messages import (
    DRA_SERVICES,
    HEALTH_SERVICES,
    HEALTHY,
    UNHEALTHY,
    watch_health,
)
from pilothouse.kubelet.plugins.rpc import Channel, PluginError

log = logging.getLogger(__name__)
WIPE_SECONDS = 30.0
HEALTH_RETRY_SECONDS = 5.0
HEALTH_SECONDS = 30.0
"""How long a report holds, unless it says otherwise."""
MAX_MESSAGE = 1024
_HEALTH_TEXTS = {HEALTHY: "Healthy", UNHEALTHY: "Unhealthy"}
DeviceKey = tuple[str, str]
"""(pool, device)"""


@dataclass(slots=True)
class Driver:
    """One registered instance; during an update there may be two of a name."""

    name: str
    endpoint: str
    service: str
    channel: Channel
    tasks: TaskOwner
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    text: str = "Unknown"
    message: str = ""
    until: float = 0.0


class Drivers:
    """Implements ``watcher.PluginHandler`` for ``DRAPlugin``."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        node_name: str,
        changed: Callable[[str, set[DeviceKey]], None],
        where: Callable[[str], str],
    ) -> None:
        """``changed(driver, devices)``: these have another health. ``where``: the place of what
        plugins call a path."""
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._changed = changed
        self._where = where
        self._drivers: dict[str, list[Driver]] = {}
        self._health: dict[str, dict[DeviceKey, Health]] = {}
        self._wipes: dict[str, TimerHandle] = {}
        self._tasks = TaskOwner(f"DRA drivers of {node_name}")

    async def start(self) -> None:
        """Slices of drivers that ran on an earlier kubelet are theirs to publish anew."""
        self._tasks.start(self._wipe(""), "wipe")

    async def stop(self) -> None:
        for timer in self._wipes.values():
            timer.cancel()
        for driver in [d for drivers in self._drivers.values() for d in drivers]:
            await driver.tasks.close()
            await driver.channel.close()
        await self._tasks.close()

    # -- registration --------------------------------------------------------------------

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        """:raises PluginError: no service of it is known, or it is registered already."""
        where = f"DRA driver plugin {name} at endpoint {endpoint}"
        if not versions:
            problem = "empty list of supported gRPC services (aka supported versions)"
            raise PluginError(f"invalid supported gRPC versions of {where}: {problem}")
        service = next((v for v in versions if v in DRA_SERVICES), "")
        if not service:
            raise PluginError(
                f"invalid supported gRPC versions of {where}: none of services supported by the "
                f"plugin ({_quoted(versions)}) are supported by the kubelet "
                f"({_quoted(DRA_SERVICES)})"
            )
        known = self._drivers.setdefault(name, [])
        if any(d.endpoint == endpoint for d in known):
            raise PluginError(
                f"endpoint {endpoint} already registered for DRA driver plugin {name}"
            )
        channel = Channel(self._where(endpoint))
        driver = Driver(name, endpoint, service, channel, TaskOwner(f"DRA driver {name}"))
        known.append(driver)
        driver.tasks.start(self._follow(driver), "connection")
        health = next((s for s in HEALTH_SERVICES if s in versions), "")
        if health:
            driver.tasks.start(self._watch_health(driver, health), "health")
        self._sync(name)

    async def deregister(self, name: str, endpoint: str) -> None:
        for driver in list(self._drivers.get(name, ())):
            if driver.endpoint == endpoint:
                self._drivers[name].remove(driver)
                await driver.tasks.close()
                await driver.channel.close()
        if not self._drivers.get(name):
            self._drivers.pop(name, None)
        self._sync(name)

    def get(self, name: str) -> Driver:
        """The newest that is connected, else the newest. :raises PluginError: there is none."""
        drivers = self._drivers.get(name)
        if not drivers:
            raise PluginError(f"DRA driver {name} is not registered")
        return next((d for d in reversed(drivers) if d.connected), drivers[-1])

    async def _follow(self, driver: Driver) -> None:
        async for connected in driver.channel.connections():
            if connected is not driver.connected:
                driver.connected = connected
                self._sync(driver.name)

    # -- ResourceSlices of drivers that are gone -----------------------------------------

    def _sync(self, name: str) -> None:
        if any(d.connected for d in self._drivers.get(name, ())):
            timer = self._wipes.pop(name, None)
            if timer is not None:
                timer.cancel()
        elif name not in self._wipes:
            self._wipes[name] = self._clock.call_later(WIPE_SECONDS, self._wipe_soon, name)

    def _wipe_soon(self, name: str) -> None:
        self._wipes.pop(name, None)
        self._tasks.start(self._wipe(name), f"wipe {name}")

    async def _wipe(self, driver: str) -> None:
        selector = f"spec.nodeName={self._node_name}"
        if driver:
            selector = f"spec.driver={driver},{selector}"
        delay = 1.0
        while True:
            try:
                await self._client.delete_collection(
                    RESOURCE_SLICES, options=ListOptions(field_selector=selector)
                )
            except (StatusError, OSError) as error:
                log.warning("ResourceSlices of %s could not be deleted: %s", driver, error)
            else:
                return
            await self._clock.sleep(delay)
            delay = min(delay * 2, 300.0)

    # -- health --------------------------------------------------------------------------

    async def _watch_health(self, driver: Driver, service: str) -> None:
        method = watch_health(service)
        while True:
            try:
                async for report in driver.channel.stream(method):
                    self._reported(driver.name, report["devices"])
            except PluginError as error:
                if error.unimplemented:
                    return
                log.info("health of %s: %s", driver.name, error)
            self._reset_health(driver.name)
            await self._clock.sleep(HEALTH_RETRY_SECONDS)

    def _reported(self, name: str, devices: Iterable[Obj]) -> None:
        known, now = self._health.setdefault(name, {}), self._clock.monotonic()
        changed = set()
        for each in devices:
            device = each["device"] or {}
            key = (device.get("pool_name", ""), device.get("device_name", ""))
            message = each["message"]
            if len(message) > MAX_MESSAGE:
                message = f"{message[: MAX_MESSAGE - 3]}..."
            seconds = each["health_check_timeout_seconds"]
            until = now + (seconds if seconds > 0 else HEALTH_SECONDS)
            health = Health(_HEALTH_TEXTS.get(each["health"], "Unknown"), message, until)
            old = known.get(key, Health())
            if (old.text, old.message) != (health.text, health.message):
                changed.add(key)
            known[key] = health
            self._clock.call_later(until - now, self._expired, name, key, health)
        if changed:
            self._changed(name, changed)

    def _expired(self, name: str, key: DeviceKey, health: Health) -> None:
        if self._health.get(name, {}).get(key) is health:
            del self._health[name][key]
            self._changed(name, {key})

    def _reset_health(self, name: str) -> None:
        known = self._health.pop(name, {})
        if known:
            self._changed(name, set(known))

    def health(self, driver: str, key: DeviceKey) -> Health:
        return self._health.get(driver, {}).get(key, Health())


def _quoted(names: Iterable[str]) -> str:
    return "[" + " ".join(f'"{name}"' for name in names) + "]"
