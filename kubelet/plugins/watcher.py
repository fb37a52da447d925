"""Plugins register by putting a socket into ``plugins_registry`` (pluginregistration v1).

A socket that appears is asked who it is, its type's handler takes it, and it is told how that
went; when it disappears the handler is told. What failed is tried again, later and later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pilothouse.apimachinery.clock import Clock
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubelet.plugins.messages import GET_INFO, NOTIFY
from pilothouse.kubelet.plugins.rpc import Channel, PluginError
from pilothouse.kubelet.server.inotify import DirectoryWatches

log = logging.getLogger(__name__)
CALL_SECONDS = 10.0
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 120.0
Signature = tuple[int, int]
"""Of a socket: inode and time of its making."""


class PluginHandler(Protocol):
    """Of one type of plugins."""

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        """:raises PluginError: it can't be used."""
        ...

    async def deregister(self, name: str, endpoint: str) -> None: ...


@dataclass(slots=True)
class _Known:
    signature: Signature
    task: asyncio.Task[None]
    registered: tuple[PluginHandler, str, str] | None = None
    """(handler, name, endpoint)"""


class PluginWatcher:
    def __init__(
        self, directory: str, handlers: Mapping[str, PluginHandler], clock: Clock, tasks: TaskOwner
    ) -> None:
        """``handlers``: by type (``DRAPlugin``, ``DevicePlugin``)."""
        self._directory = directory
        self._handlers = handlers
        self._clock = clock
        self._tasks = tasks
        self._known: dict[str, _Known] = {}
        self._watches = DirectoryWatches()

    async def run(self) -> None:
        """Until cancelled."""
        changed = self._watches.watch(self._directory)
        try:
            while True:
                changed.clear()
                await self.look()
                await changed.wait()
        finally:
            self._watches.unwatch(changed)

    async def look(self) -> None:
        """Acts on what is there now and was not before, or the other way round."""
        present = _sockets(self._directory)
        for path, known in list(self._known.items()):
            if present.get(path) != known.signature:
                await self._gone(self._known.pop(path))
        for path, signature in present.items():
            if path not in self._known:
                task = self._tasks.start(self._register(path, signature), f"register {path}")
                self._known[path] = _Known(signature, task)

    async def _gone(self, known: _Known) -> None:
        known.task.cancel()
        if known.registered is not None:
            handler, name, endpoint = known.registered
            await handler.deregister(name, endpoint)

    async def _register(self, path: str, signature: Signature) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                registered = await self._try(path)
            except PluginError as error:
                log.warning("plugin %s could not be registered: %s", path, error)
            else:
                known = self._known.get(path)
                if known is not None and known.signature == signature:
                    known.registered = registered
                return
            await self._clock.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    async def _try(self, path: str) -> tuple[PluginHandler, str, str]:
        channel = Channel(path)
        try:
            info = await channel.call(GET_INFO, timeout=CALL_SECONDS)
            name, endpoint = info["name"], info["endpoint"] or path
            problem = ""
            handler = self._handlers.get(info["type"])
            if handler is None:
                problem = f"no handler registered for plugin type: {info['type']} at socket {path}"
            else:
                try:
                    await handler.register(name, endpoint, info["supported_versions"])
                except PluginError as error:
                    problem = f"plugin registration failed with err: {error}"
            status = {"plugin_registered": not problem, "error": problem}
            await channel.call(NOTIFY, status, timeout=CALL_SECONDS)
        finally:
            await channel.close()
        if handler is None or problem:
            raise PluginError(problem)
        return handler, name, endpoint


def _sockets(directory: str) -> dict[str, Signature]:
    """By path, also in folders below."""
    found = {}
    for folder, folders, files in os.walk(directory):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in files:
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISSOCK(info.st_mode) and not name.startswith("."):
                found[path] = (info.st_ino, info.st_ctime_ns)
    return found
