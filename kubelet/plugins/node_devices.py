"""All that a kubelet does with devices: who offers them, what a pod's containers get of them.

Only nodes with real containers have this; nothing is imported or started before a plugin comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace

from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubelet.interfaces import ContainerConfigError
from pilothouse.kubelet.plugins.cdi import CDIError, Edits, edits_of
from pilothouse.kubelet.plugins.device_book import NoDevices
from pilothouse.kubelet.plugins.device_plugins import DevicePlugins
from pilothouse.kubelet.plugins.dra import ClaimManager, uses_claims
from pilothouse.kubelet.plugins.node_paths import KUBELET, node_path
from pilothouse.kubelet.plugins.rpc import PluginError
from pilothouse.kubelet.plugins.watcher import PluginHandler, PluginWatcher

log = logging.getLogger(__name__)
Rejection = tuple[str, str]


class NodeDevices:
    def __init__(
        self,
        env: Environment,
        node_name: str,
        root: str,
        *,
        kick: Callable[[str], None],
        capacity_changed: Callable[[], None],
    ) -> None:
        def where(path: str) -> str:
            return node_path(path, root)

        self._root = root
        self._registry = os.path.join(root, "plugins_registry")
        self._claims = ClaimManager(env.client, env.clock, node_name, root, kick, where)
        self._plugins = DevicePlugins(
            os.path.join(root, "device-plugins"), env.clock, capacity_changed, kick, where
        )
        self._tasks = TaskOwner(f"plugins of {node_name}")
        handlers: dict[str, PluginHandler] = {
            "DRAPlugin": self._claims.drivers,
            "DevicePlugin": self._plugins,
        }
        self._watcher = PluginWatcher(self._registry, handlers, env.clock, self._tasks)

    async def start(self, active: Iterable[str]) -> None:
        """``active``: uids of pods that are still there."""
        pods = list(active)
        try:
            os.makedirs(self._registry, mode=0o750, exist_ok=True)
            await self._plugins.start(pods)
        except OSError as error:  # a node without plugins is better than none
            log.error("no plugins can register: %s", error)
            return
        self._tasks.start(self._watcher.run(), "watcher")
        self._tasks.start(self._claims.start(pods), "claims")

    async def stop(self) -> None:
        await self._tasks.close()
        await self._plugins.stop()
        await self._claims.stop()

    def counts(self) -> dict[str, tuple[int, int]]:
        """(capacity, allocatable) of extended resources."""
        return self._plugins.counts()

    def placed(self, pod: Obj) -> Obj:
        """The pod with the folders that plugins use where this node has them."""
        volumes = pod["spec"].get("volumes") or ()
        if not any(v.get("hostPath", {}).get("path", "").startswith(KUBELET) for v in volumes):
            return pod
        moved = [_placed(volume, self._root) for volume in volumes]
        return {**pod, "spec": {**pod["spec"], "volumes": moved}}

    # -- a pod's life --------------------------------------------------------------------

    async def admit(self, pod: Obj) -> Rejection | None:
        """Takes the devices of plugins that the pod needs."""
        try:
            await self._plugins.allocate(pod)
        except (NoDevices, PluginError) as error:
            self._plugins.release(pod["metadata"]["uid"])
            text = f"Pod was rejected: Allocate failed due to {error}, which is unexpected"
            return "UnexpectedAdmissionError", text
        return None

    async def prepare(self, pod: Obj) -> str:
        """Before its sandbox is made: why its claims can't be used (yet), or ''."""
        if not uses_claims(pod):
            return ""
        try:
            await self._claims.prepare(pod)
        except PluginError as error:
            return f"Failed to prepare dynamic resources: prepare dynamic resources: {error}"
        return ""

    async def edits(self, pod: Obj, container: Obj) -> Edits:
        """What the container gets. :raises ContainerConfigError:"""
        try:
            edits, names = await self._plugins.edits(pod, container)
            if uses_claims(pod):
                names += self._claims.devices(pod, container)
            if names:
                edits.add(await asyncio.to_thread(edits_of, names))
        except (PluginError, CDIError) as error:
            raise ContainerConfigError(str(error)) from error
        edits.mounts = [
            replace(m, host_path=node_path(m.host_path, self._root)) for m in edits.mounts
        ]
        return edits

    async def end(self, pod: Obj) -> None:
        """Its containers have ended. :raises PluginError: a driver could not let go (yet)."""
        await self._claims.unprepare(pod)
        self._plugins.release(pod["metadata"]["uid"])

    def add_health(self, pod: Obj, status: Obj) -> None:
        """``allocatedResourcesStatus`` of the pod's containers."""
        by_name = {c["name"]: c for c in pod["spec"].get("containers") or ()}
        for each in status.get("containerStatuses") or ():
            container = by_name.get(each["name"])
            if container is None:
                continue
            found = self._plugins.health(pod, container)
            if (container.get("resources") or {}).get("claims"):
                found += self._claims.health(pod, container)
            if found:
                each["allocatedResourcesStatus"] = found


def _placed(volume: Obj, root: str) -> Obj:
    source = volume.get("hostPath")
    if source is None:
        return volume
    return {**volume, "hostPath": {**source, "path": node_path(source["path"], root)}}
