"""Synchronous reads of the server's own watch caches (``admission/interfaces.py`` Listers).

Authorizers, admission plugins and strategies look things up here: no request, no waiting. A
resource's cache is started by ``subscribe``, or by ``ensure``; before it is ready it looks empty.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.errors import Untransformable
from pilothouse.apiserver.storage.keys import list_prefix, object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.registry.resources import ResourceRegistry, ServedResource
    from pilothouse.apiserver.storage.cacher.cacher import Cacher
    from pilothouse.componentbase.tasks import TaskOwner

log = logging.getLogger(__name__)


class CacheListers:
    """Listers over the stores of a :class:`ResourceRegistry`."""

    def __init__(self, registry: ResourceRegistry, tasks: TaskOwner) -> None:
        self._registry = registry
        self._tasks = tasks
        self._found: dict[GroupResource, ServedResource] = {}
        self._generation = registry.generation
        self._wanted: dict[GroupResource, Cacher] = {}
        self._starting: list[asyncio.Task[Any]] = []

    def _served(self, resource: GroupResource) -> ServedResource | None:
        if self._generation != self._registry.generation:
            self._found.clear()
            self._generation = self._registry.generation
        served = self._found.get(resource)
        if served is None:
            served = self._registry.by_group_resource(resource)
            if served is not None:
                self._found[resource] = served
        return served

    def _cacher(self, served: ServedResource) -> Cacher:
        cacher = served.store.cacher
        if not cacher.ready and served.group_resource not in self._wanted:
            self._wanted[served.group_resource] = cacher
            task = self._tasks.start(cacher.ensure_ready(), f"cache-{served.gvr.resource}")
            self._starting.append(task)
        return cacher

    def get(self, resource: GroupResource, namespace: str, name: str) -> Obj | None:
        served = self._served(resource)
        if served is None or not name:
            return None
        key = object_key(served.prefix, namespace if served.namespaced else "", name)
        entry = self._cacher(served).get(key)
        return None if entry is None else entry.obj

    def list(self, resource: GroupResource, namespace: str = "") -> Iterable[Obj]:
        served = self._served(resource)
        if served is None:
            return ()
        prefix = list_prefix(served.prefix, namespace if served.namespaced else "")
        entries, _, _ = self._cacher(served).list(prefix)
        return [entry.obj for entry in entries]

    def subscribe(
        self, resource: GroupResource, handler: Callable[[str, Obj, Obj | None], Any]
    ) -> None:
        served = self._served(resource)
        if served is None:
            return
        cacher = self._cacher(served)
        if cacher.ready:
            for entry in cacher.list(served.prefix)[0]:
                handler("ADDED", entry.peek(), None)
            cacher.subscribe(_bridge(handler))
            return
        following = _subscribe_when_ready(cacher, served.prefix, handler)
        self._starting.append(self._tasks.start(following, f"follow-{served.gvr.resource}"))

    @property
    def starting(self) -> int:
        """Caches that have been asked for and are not ready yet."""
        return sum(not cacher.ready for cacher in self._wanted.values())

    async def settled(self) -> None:
        """Waits for the caches and subscriptions that have been asked for so far."""
        while self._starting:
            waiting, self._starting = self._starting, []
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(outcome, Untransformable):
                    # Nobody can read these objects, but all others can be served.
                    log.error("%s", outcome)
                elif isinstance(outcome, BaseException):
                    raise outcome

    async def ensure(self, *resources: GroupResource) -> None:
        """Starts the caches of ``resources`` and waits until they can be read."""
        for resource in resources:
            served = self._served(resource)
            if served is not None:
                await self._cacher(served).ensure_ready()


def _bridge(handler: Callable[[str, Obj, Obj | None], Any]) -> Callable[[Any], None]:
    """Handlers get objects without a promise of their resourceVersion: looking must not make the
    cache keep every pod decoded (ten times its bytes)."""

    def on_event(event: Any) -> None:
        prev = event.prev
        handler(event.type, event.entry.peek(), None if prev is None else prev.peek())

    return on_event


async def _subscribe_when_ready(
    cacher: Cacher, prefix: str, handler: Callable[[str, Obj, Obj | None], Any]
) -> None:
    await cacher.ensure_ready()
    # No await from here on: nothing can happen between the list and the subscription.
    for entry in cacher.list(prefix)[0]:
        handler("ADDED", entry.peek(), None)
    cacher.subscribe(_bridge(handler))
