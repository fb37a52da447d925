"""Feeds the graph: follows every deletable resource that the server has.

A resource that some controller follows already is taken from its informer; for the others only
the facts of the graph are kept, never the objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, uid_of
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.controllermanager.garbage_collector.graph import Command, Graph, facts_of
from pilothouse.kubeclient.cache.reflector import Reflector
from pilothouse.kubeclient.discovery import APIResource, Discovered, discover

if TYPE_CHECKING:
    import asyncio

    from pilothouse.apimachinery.schema import GroupResource, GroupVersionResource
    from pilothouse.kubeclient.cache.informer import Registration
    from pilothouse.kubeclient.interfaces import Environment, WatchEvent

log = logging.getLogger(__name__)

IGNORED = frozenset(("events", "events.events.k8s.io"))
_NEEDED_VERBS = frozenset(("delete", "list", "watch"))


class _Monitor:
    """Follows one resource and keeps nothing but the uids."""

    def __init__(self, builder: GraphBuilder, resource: APIResource) -> None:
        self.resource = resource
        self.synced = False
        self._builder = builder
        self._uids: set[str] = set()
        self.registration: Registration | None = None
        self.reflector: Reflector | None = None
        self.task: asyncio.Task[object] | None = None

    def added(self, obj: Obj) -> None:
        self._uids.add(uid_of(obj))
        facts = facts_of(obj, self.resource.gvr.api_version, self.resource.kind)
        self._builder.process(self._builder.graph.observe(facts))

    def removed(self, obj: Obj) -> None:
        self._uids.discard(uid_of(obj))
        facts = facts_of(obj, self.resource.gvr.api_version, self.resource.kind)
        self._builder.process(self._builder.graph.remove(facts.identity))

    def updated(self, old: Obj, new: Obj) -> None:
        if uid_of(old) != uid_of(new):
            self.removed(old)
        self.added(new)

    def drop_all(self) -> None:
        """The resource is no longer served: nothing of it exists."""
        for uid in self._uids:
            node = self._builder.graph.get(uid)
            if node is not None:
                self._builder.process(self._builder.graph.remove(node.identity))
        self._uids.clear()

    # A reflector's sink.

    def replace(self, objects: list[Obj], resource_version: str) -> None:
        gone = self._uids - {uid_of(obj) for obj in objects}
        for obj in objects:
            self.added(obj)
        for uid in gone:
            self._uids.discard(uid)
            node = self._builder.graph.get(uid)
            if node is not None:
                self._builder.process(self._builder.graph.remove(node.identity))
        self.synced = True
        self._builder.monitor_synced()

    def apply(self, events: Sequence[WatchEvent]) -> None:
        for type_, obj in events:
            if type_ == "DELETED":
                self.removed(obj)
            else:
                self.added(obj)


class GraphBuilder:
    def __init__(
        self,
        env: Environment,
        process: Callable[[Sequence[Command]], None],
        ignored: frozenset[str] = IGNORED,
    ) -> None:
        self.graph = Graph()
        self.process = process
        self.discovered = Discovered([], {})
        self._env = env
        self._ignored = ignored
        self._monitors: dict[GroupVersionResource, _Monitor] = {}
        self._tasks = TaskOwner("garbage-collector-monitors")
        self._probe = f"garbage-collector/{id(self)}"
        self._on_synced: Callable[[], None] | None = None
        env.activity.add_probe(self._probe, self._pending)

    async def refresh(self) -> None:
        """Asks what the server serves now, and follows exactly that."""
        discovered = await discover(self._env.client)
        wanted = {
            r.gvr: r
            for r in discovered.preferred()
            if r.verbs >= _NEEDED_VERBS and str(r.gvr.group_resource) not in self._ignored
        }
        failed_groups = {name.rpartition("/")[0] for name in discovered.failed}
        self.discovered = discovered
        for gvr in list(self._monitors):
            if gvr not in wanted and gvr.group not in failed_groups:
                self._forget(gvr)
        for gvr, resource in wanted.items():
            if gvr not in self._monitors:
                self._follow(resource)

    def is_synced(self) -> bool:
        return all(monitor.synced for monitor in self._monitors.values())

    def when_synced(self, callback: Callable[[], None]) -> None:
        """Calls back when all that is followed has been seen once (at once if it has)."""
        if self.is_synced():
            callback()
        else:
            self._on_synced = callback

    def monitor_synced(self) -> None:
        if self._on_synced is not None and self.is_synced():
            callback, self._on_synced = self._on_synced, None
            callback()

    def follows(self, group_resource: GroupResource) -> bool:
        return any(gvr.group_resource == group_resource for gvr in self._monitors)

    async def stop(self) -> None:
        for monitor in self._monitors.values():
            if monitor.registration is not None:
                monitor.registration.remove()
        await self._tasks.close()
        self._env.activity.remove_probe(self._probe)

    def _pending(self) -> bool:
        return any(
            monitor.reflector is not None and monitor.reflector.pending
            for monitor in self._monitors.values()
        )

    def _follow(self, resource: APIResource) -> None:
        monitor = self._monitors[resource.gvr] = _Monitor(self, resource)
        informer = self._env.informers.existing(resource.gvr)
        if informer is not None and informer.has_synced:
            monitor.registration = informer.add_handler(
                monitor.added, monitor.updated, monitor.removed
            )
            monitor.synced = True
            return
        monitor.reflector = Reflector(
            self._env.client,
            resource.gvr,
            monitor,
            clock=self._env.clock,
            random=self._env.random,
            activity=self._env.activity,
        )
        monitor.task = self._tasks.start(monitor.reflector.run(), str(resource.gvr.group_resource))

    def _forget(self, gvr: GroupVersionResource) -> None:
        monitor = self._monitors.pop(gvr)
        if monitor.registration is not None:
            monitor.registration.remove()
        if monitor.task is not None:
            monitor.task.cancel()
        monitor.drop_all()
        self.monitor_synced()
