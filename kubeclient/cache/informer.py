"""One followed resource, shared by all parts of a process that read it.

reflector → store → handlers, all in the turn of the event loop in which the batch arrived.
Handlers run synchronously, in order, and must only enqueue keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, object_key
from pilothouse.kubeclient.cache.reflector import Reflector
from pilothouse.kubeclient.cache.store import IndexFunc, Objects, Store

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient.interfaces import Client, WatchEvent

log = logging.getLogger(__name__)

AddHandler = Callable[[Obj], object]
UpdateHandler = Callable[[Obj, Obj], object]


class Registration:
    """One added set of handlers; ``remove`` ends its notifications."""

    __slots__ = ("_informer", "on_add", "on_delete", "on_update")

    def __init__(
        self,
        informer: SharedInformer,
        on_add: AddHandler | None,
        on_update: UpdateHandler | None,
        on_delete: AddHandler | None,
    ) -> None:
        self._informer = informer
        self.on_add = on_add
        self.on_update = on_update
        self.on_delete = on_delete

    def remove(self) -> None:
        self._informer.remove_handler(self)


class SharedInformer:
    """The local copy of a resource and the ones who are told of its changes.

    Some states of an object may never be seen, but those that are come in order. Objects are
    shared with everyone else and read-only.
    """

    def __init__(
        self,
        client: Client,
        resource: GroupVersionResource,
        *,
        clock: Clock,
        random: Random,
        activity: ActivityTracker,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self.store = Store()
        self._synced = asyncio.Event()
        self._handlers: tuple[Registration, ...] = ()
        self.reflector = Reflector(
            client,
            resource,
            self,
            clock=clock,
            random=random,
            activity=activity,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
        )

    async def run(self) -> None:
        """Follows the resource until cancelled."""
        await self.reflector.run()

    @property
    def has_synced(self) -> bool:
        """Whether the first complete set of objects is in the store and was announced."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    @property
    def pending(self) -> bool:
        return self.reflector.pending

    def add_handler(
        self,
        on_add: AddHandler | None = None,
        on_update: UpdateHandler | None = None,
        on_delete: AddHandler | None = None,
    ) -> Registration:
        """``on_add(obj)``, ``on_update(old, new)``, ``on_delete(last known obj)``; objects that
        are there already are announced as added before this returns."""
        registration = Registration(self, on_add, on_update, on_delete)
        self._handlers = (*self._handlers, registration)
        if on_add is not None:
            for obj in self.store.list():
                self._call(on_add, obj)
        return registration

    def remove_handler(self, registration: Registration) -> None:
        self._handlers = tuple(h for h in self._handlers if h is not registration)

    def add_index(self, name: str, function: IndexFunc) -> None:
        self.store.add_index(name, function)

    def get(self, key: str) -> Obj | None:
        return self.store.get(key)

    def list(self, namespace: str = "", selector: Selector | None = None) -> Objects:
        return self.store.list(namespace, selector)

    def by_index(self, name: str, value: str) -> Objects:
        return self.store.by_index(name, value)

    # The reflector's sink.

    def replace(self, objects: Objects, resource_version: str) -> None:
        present = set()
        for obj in objects:
            present.add(object_key(obj))
            self._set(obj)
        for key in self.store.keys():
            if key not in present:
                self._remove(key)
        self._synced.set()

    def apply(self, events: Sequence[WatchEvent]) -> None:
        for type_, obj in events:
            if type_ == "DELETED":
                self._remove(object_key(obj), obj)
            else:
                self._set(obj)

    def _set(self, obj: Obj) -> None:
        old = self.store.set(obj)
        if old is None:
            for handler in self._handlers:
                if handler.on_add is not None:
                    self._call(handler.on_add, obj)
        elif _version(old) != _version(obj):
            for handler in self._handlers:
                if handler.on_update is not None:
                    self._call(handler.on_update, old, obj)

    def _remove(self, key: str, last: Obj | None = None) -> None:
        old = self.store.remove(key)
        if old is None:
            return
        for handler in self._handlers:
            if handler.on_delete is not None:
                self._call(handler.on_delete, last or old)

    def _call(self, handler: Callable[..., object], *objects: Obj) -> None:
        """One handler's mistake must not stop the informer or the other handlers."""
        try:
            handler(*objects)
        except Exception:
            log.exception("handler of %s failed", self.resource.group_resource)


def _version(obj: Obj) -> object:
    metadata = obj["metadata"]
    return metadata.get("resourceVersion") or obj, metadata.get("uid")
