"""Device plugins (deviceplugin v1beta1): they register at ``device-plugins/kubelet.sock``, list
their devices, and are asked for those that a container gets (pkg/kubelet/cm/devicemanager)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.clock import Clock, TimerHandle
from pilothouse.apimachinery.object import Obj, get_nested, uid_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_names import is_extended
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubelet.plugins.cdi import Edits, device_node
from pilothouse.kubelet.plugins.device_book import FILE, HEALTHY, DeviceBook, Held
from pilothouse.kubelet.plugins.messages import (
    ALLOCATE,
    DEVICE_PLUGIN_VERSION,
    GET_OPTIONS,
    LIST_AND_WATCH,
    PRE_START,
    PREFERRED,
    REGISTER,
)
from pilothouse.kubelet.plugins.rpc import Channel, LazyServer, PluginError
from pilothouse.kubelet.runtime.interfaces import Mount

log = logging.getLogger(__name__)
SOCKET = "kubelet.sock"
GONE_SECONDS = 300.0
"""How long a node shows the devices of a plugin that is away."""
_KEPT = frozenset((FILE, "DEPRECATION"))


@dataclass(slots=True)
class _Plugin:
    resource: str
    endpoint: str
    options: dict[str, Any]
    channel: Channel
    tasks: TaskOwner = field(default_factory=lambda: TaskOwner("device plugin"))


class DevicePlugins:
    """Implements ``watcher.PluginHandler`` for ``DevicePlugin``."""

    def __init__(
        self,
        directory: str,
        clock: Clock,
        capacity_changed: Callable[[], None],
        kick: Callable[[str], None],
        where: Callable[[str], str],
    ) -> None:
        """``kick(pod uid)``: its status has changed. ``where``: the place of what plugins call a
        path."""
        self._directory = directory
        self._clock = clock
        self._capacity_changed = capacity_changed
        self._kick = kick
        self._where = where
        self._book = DeviceBook(directory)
        self._plugins: dict[str, _Plugin] = {}
        self._leaving: dict[str, TimerHandle] = {}
        self.gone: set[str] = set()
        """Resources that the node had."""
        self._server = LazyServer(os.path.join(directory, SOCKET), [(REGISTER, self._registration)])

    async def start(self, active: Iterable[str]) -> None:
        """``active``: uids of pods that are still there. Plugins notice that the sockets are
        gone, and register anew. :raises OSError:"""
        _clean(self._directory)
        try:
            self._book.load()
        except (ValueError, KeyError) as error:
            log.error("devices of pods: %s", error)
        for uid in self._book.pods() - set(active):
            self._book.release(uid)
        for resource in self._book.health:
            self._leave(resource)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()
        for timer in self._leaving.values():
            timer.cancel()
        for plugin in list(self._plugins.values()):
            await self._close(plugin)

    def counts(self) -> dict[str, tuple[int, int]]:
        """(capacity, allocatable) by resource."""
        return {**dict.fromkeys(self.gone, (0, 0)), **self._book.counts()}

    # -- registration --------------------------------------------------------------------

    async def _registration(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["version"] != DEVICE_PLUGIN_VERSION:
            raise PluginError(
                f'requested API version "{request["version"]}" is not supported by kubelet. '
                f'Supported version is ["{DEVICE_PLUGIN_VERSION}"]'
            )
        path = os.path.join(self._directory, request["endpoint"])
        await self._connect(request["resource_name"], path, request["options"])
        return {}

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        if DEVICE_PLUGIN_VERSION not in versions:
            raise PluginError(
                f"manager for device plugin {name} does not support the versions {versions}"
            )
        await self._connect(name, self._where(endpoint), None)

    async def deregister(self, name: str, endpoint: str) -> None:
        plugin = self._plugins.get(name)
        if plugin is not None and plugin.endpoint == self._where(endpoint):
            await self._lost(plugin)

    async def _connect(self, resource: str, path: str, options: dict[str, Any] | None) -> None:
        if not is_extended(resource):
            raise PluginError(f'the ResourceName "{resource}" is invalid')
        old = self._plugins.pop(resource, None)
        if old is not None:
            await self._close(old)
        channel = Channel(path)
        if options is None:
            options = await channel.call(GET_OPTIONS, timeout=10)
        plugin = _Plugin(resource, path, options, channel)
        self._plugins[resource] = plugin
        timer = self._leaving.pop(resource, None)
        if timer is not None:
            timer.cancel()
        self.gone.discard(resource)
        self._book.health.setdefault(resource, {})
        plugin.tasks.start(self._follow(plugin), resource)

    async def _follow(self, plugin: _Plugin) -> None:
        try:
            async for answer in plugin.channel.stream(LIST_AND_WATCH):
                self._listed(plugin.resource, answer["devices"])
        except PluginError as error:
            log.warning("device plugin of %s: %s", plugin.resource, error)
        if self._plugins.get(plugin.resource) is plugin:
            del self._plugins[plugin.resource]
            self._all_lost(plugin.resource)
            await plugin.channel.close()

    def _listed(self, resource: str, devices: Iterable[Obj]) -> None:
        before = self._book.health.get(resource, {})
        now = {d["ID"]: d["health"] for d in devices}
        self._book.set_devices(resource, now)
        self._tell(resource, {d for d in before.keys() | now.keys() if before.get(d) != now.get(d)})

    def _tell(self, resource: str, devices: Iterable[str]) -> None:
        self._save()
        self._capacity_changed()
        for uid in {uid for device in devices for uid in self._book.owners(resource, device)}:
            self._kick(uid)

    async def _lost(self, plugin: _Plugin) -> None:
        self._plugins.pop(plugin.resource, None)
        await self._close(plugin)
        self._all_lost(plugin.resource)

    def _all_lost(self, resource: str) -> None:
        self._book.lose(resource)
        self._leave(resource)
        self._tell(resource, self._book.health[resource])

    def _leave(self, resource: str) -> None:
        self._leaving[resource] = self._clock.call_later(GONE_SECONDS, self._forget, resource)

    def _forget(self, resource: str) -> None:
        self._leaving.pop(resource, None)
        self._book.forget(resource)
        self.gone.add(resource)
        self._save()
        self._capacity_changed()

    async def _close(self, plugin: _Plugin) -> None:
        await plugin.tasks.close()
        await plugin.channel.close()

    def _save(self) -> None:
        try:
            self._book.save()
        except OSError as error:
            log.error("devices of pods could not be noted: %s", error)

    # -- devices of pods -----------------------------------------------------------------

    async def allocate(self, pod: Obj) -> None:
        """Devices for all containers that ask for some. Asked again, nothing changes.

        :raises NoDevices: :raises PluginError:
        """
        reusable: dict[str, set[str]] = {}
        spec, given = pod["spec"], False
        for container in spec.get("initContainers") or ():
            given |= await self._allocate(pod, container, reusable)
            held = self._book.of((uid_of(pod), container["name"]))
            for resource, each in held.items():
                if container.get("restartPolicy") == "Always":
                    reusable.get(resource, set()).difference_update(each.devices)
                else:
                    reusable.setdefault(resource, set()).update(each.devices)
        for container in spec.get("containers") or ():
            given |= await self._allocate(pod, container, reusable)
            for resource, each in self._book.of((uid_of(pod), container["name"])).items():
                reusable.get(resource, set()).difference_update(each.devices)
        if given:
            self._save()

    async def _allocate(self, pod: Obj, container: Obj, reusable: dict[str, set[str]]) -> bool:
        owner = (uid_of(pod), container["name"])
        given = False
        for resource, count in _wanted(pod, container).items():
            if resource not in self._book.health or resource in self._book.of(owner):
                continue
            devices = await self._choose(resource, count, reusable.get(resource, set()))
            held = Held(devices)
            self._book.hold(owner, resource, held)
            try:
                held.answer = await self._answer(resource, devices)
            except PluginError:
                self._book.release(owner[0])
                raise
            given = True
        return given

    async def _choose(self, resource: str, count: int, reusable: set[str]) -> list[str]:
        chosen = self._book.choose(resource, count, reusable)
        plugin = self._plugins.get(resource)
        fixed = [d for d in chosen if d in reusable]
        if plugin is None or not plugin.options.get("get_preferred_allocation_available"):
            return chosen
        if len(fixed) == count:
            return chosen
        request = {
            "available_deviceIDs": fixed + self._book.free(resource),
            "must_include_deviceIDs": fixed,
            "allocation_size": count,
        }
        answer = await plugin.channel.call(PREFERRED, {"container_requests": [request]})
        free = set(self._book.free(resource))
        liked = [d for r in answer["container_responses"] for d in r["deviceIDs"] if d in free]
        rest = [d for d in chosen if d not in liked and d not in fixed]
        return [*fixed, *(liked + rest)[: count - len(fixed)]]

    async def _answer(self, resource: str, devices: list[str]) -> dict[str, Any]:
        plugin = self._plugins.get(resource)
        if plugin is None:
            raise PluginError(f"endpoint {resource} has been stopped")
        answer = await plugin.channel.call(
            ALLOCATE, {"container_requests": [{"devices_ids": devices}]}
        )
        responses = answer["container_responses"]
        if not responses:
            raise PluginError("no containers return in allocation response {[]}")
        first: dict[str, Any] = responses[0]
        return first

    async def edits(self, pod: Obj, container: Obj) -> tuple[Edits, list[str]]:
        """What the container gets, and names of CDI devices.

        :raises PluginError: a plugin won't have it started. :raises CDIError:
        """
        edits, names = Edits(), []
        for resource, held in self._book.of((uid_of(pod), container["name"])).items():
            plugin = self._plugins.get(resource)
            if plugin is not None and plugin.options.get("pre_start_required"):
                await plugin.channel.call(PRE_START, {"devices_ids": held.devices}, timeout=30)
            answer = held.answer
            edits.envs += list((answer.get("envs") or {}).items())
            edits.annotations |= answer.get("annotations") or {}
            edits.mounts += [
                Mount(m["host_path"], m["container_path"], readonly=m["read_only"])
                for m in answer.get("mounts") or ()
            ]
            edits.devices += [
                device_node(d["host_path"], d["container_path"], d["permissions"] or "rwm")
                for d in answer.get("devices") or ()
            ]
            names += [d["name"] for d in answer.get("cdi_devices") or ()]
        return edits, names

    def health(self, pod: Obj, container: Obj) -> list[Obj]:
        """For ``allocatedResourcesStatus``."""
        return [
            {
                "name": resource,
                "resources": [
                    {"resourceID": device, "health": self._health_of(resource, device)}
                    for device in held.devices
                ],
            }
            for resource, held in self._book.of((uid_of(pod), container["name"])).items()
        ]

    def _health_of(self, resource: str, device: str) -> str:
        health = self._book.health.get(resource, {}).get(device, HEALTHY)
        return "Healthy" if health == HEALTHY else "Unhealthy"

    def release(self, uid: str) -> None:
        if self._book.release(uid):
            self._save()


def _clean(directory: str) -> None:
    os.makedirs(directory, mode=0o750, exist_ok=True)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name not in _KEPT and not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)


def _wanted(pod: Obj, container: Obj) -> dict[str, int]:
    """Of extended resources, but those that are allocated as claims."""
    limits = (container.get("resources") or {}).get("limits") or {}
    mappings = get_nested(pod, "status", "extendedResourceClaimStatus", "requestMappings") or ()
    claimed = {m["resourceName"] for m in mappings if m["containerName"] == container["name"]}
    counts = {n: Quantity.parse(q).value() for n, q in limits.items() if "/" in n}
    return {name: count for name, count in counts.items() if count and name not in claimed}
