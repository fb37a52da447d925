"""The objects of one informer by key, with indices (client-go's ThreadSafeStore and Indexer).

Fed by ``cache.informer``; read by everyone. Objects are shared: never change one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import Obj, meta, namespace_of, object_key

if TYPE_CHECKING:
    from pilothouse.apimachinery.labels import Selector

IndexFunc = Callable[[Obj], Iterable[str]]
"""The values that an object has in an index."""

Objects = list[Obj]

NAMESPACE_INDEX = "namespace"


class Store:
    """A dict of objects by key that keeps its indices exact at every change."""

    def __init__(self) -> None:
        self._items: dict[str, Obj] = {}
        self._namespaces: dict[str, dict[str, Obj]] = {}
        self._index_functions: dict[str, IndexFunc] = {}
        self._indices: dict[str, dict[str, dict[str, Obj]]] = {}
        self._index_values: dict[str, dict[str, tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def add_index(self, name: str, function: IndexFunc) -> None:
        """Adds an index over present and future objects; the same name again does nothing."""
        if name in self._index_functions:
            return
        self._index_functions[name] = function
        self._indices[name] = {}
        self._index_values[name] = {}
        for key, obj in self._items.items():
            self._update_index(name, key, obj)

    def get(self, key: str) -> Obj | None:
        return self._items.get(key)

    def keys(self) -> list[str]:
        return list(self._items)

    def set(self, obj: Obj) -> Obj | None:
        """Stores ``obj`` and returns what it replaced."""
        key = object_key(obj)
        old = self._items.get(key)
        self._items[key] = obj
        namespace = namespace_of(obj)
        if namespace:
            members = self._namespaces.get(namespace)
            if members is None:
                members = self._namespaces[namespace] = {}
            members[key] = obj
        for name in self._index_functions:
            self._update_index(name, key, obj)
        return old

    def remove(self, key: str) -> Obj | None:
        old = self._items.pop(key, None)
        if old is None:
            return None
        namespace = namespace_of(old)
        members = self._namespaces.get(namespace)
        if members is not None:
            members.pop(key, None)
            if not members:
                del self._namespaces[namespace]
        for name in self._index_functions:
            self._drop_from_index(name, key, ())
        return old

    def list(self, namespace: str = "", selector: Selector | None = None) -> Objects:
        """All objects, or those of a namespace, or those whose labels match."""
        found = self._namespaces.get(namespace, {}) if namespace else self._items
        if selector is None or selector.empty:
            return list(found.values())
        return [obj for obj in found.values() if selector.matches(meta(obj).get("labels"))]

    def by_index(self, name: str, value: str) -> Objects:
        """The objects that have ``value`` in the index. :raises KeyError: no such index."""
        if name == NAMESPACE_INDEX:
            return list(self._namespaces.get(value, {}).values())
        return list(self._indices[name].get(value, {}).values())

    def index_values(self, name: str) -> Iterable[str]:
        if name == NAMESPACE_INDEX:
            return list(self._namespaces)
        return list(self._indices[name])

    def _update_index(self, name: str, key: str, obj: Obj) -> None:
        values = tuple(self._index_functions[name](obj))
        index = self._indices[name]
        if self._index_values[name].get(key, ()) != values:
            self._drop_from_index(name, key, values)
        if values:
            self._index_values[name][key] = values
            for value in values:
                members = index.get(value)
                if members is None:
                    members = index[value] = {}
                members[key] = obj

    def _drop_from_index(self, name: str, key: str, keep: tuple[str, ...]) -> None:
        index = self._indices[name]
        for value in self._index_values[name].pop(key, ()):
            if value not in keep:
                members = index[value]
                members.pop(key, None)
                if not members:
                    del index[value]
