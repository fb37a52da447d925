"""For tests of the cache: pods that are written to a store behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.versioner import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apiserver.storage.cacher.cache_watcher import CacheWatcher
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry
    from pilothouse.apiserver.storage.memory import MemoryStorage

PODS = "/registry/pods/"


def pod(namespace: str, name: str, node: str = "", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"nodeName": node}}


class Pods:
    """Writes pods and remembers their revisions."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.revisions: dict[str, int] = {}

    async def put(self, key: str, node: str = "", **labels: str) -> int:
        namespace, _, name = key.partition("/")
        value = encode(pod(namespace, name, node, **labels))
        path = PODS + key
        if key in self.revisions:
            write = self.storage.update(path, value, expected=self.revisions[key])
        else:
            write = self.storage.create(path, value)
        self.revisions[key] = await write
        return self.revisions[key]

    async def delete(self, key: str) -> int:
        return await self.storage.delete(PODS + key, expected=self.revisions.pop(key))


def node_of(entry: CacheEntry) -> str:
    return str(entry.obj["spec"]["nodeName"])


def label(name: str) -> Callable[[CacheEntry], bool]:
    return lambda entry: name in entry.obj["metadata"]["labels"]


def seen(watcher: CacheWatcher) -> list[str]:
    return [
        f"{event.type} {event.entry.namespace}/{event.entry.name} {event.revision}"
        if event.type != "BOOKMARK"
        else f"BOOKMARK {event.revision} {event.initial_events_end}"
        for event in watcher.take()
    ]
