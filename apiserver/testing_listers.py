"""A dict-backed :class:`Listers` for tests of authentication, authorization and admission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import name_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource


class DictListers:
    """Holds objects by resource, namespace and name; ``put`` and ``remove`` notify."""

    def __init__(self) -> None:
        self._objects: dict[GroupResource, dict[tuple[str, str], Obj]] = {}
        self._handlers: dict[GroupResource, list[Callable[[str, Obj, Obj | None], Any]]] = {}

    def get(self, resource: GroupResource, namespace: str, name: str) -> Obj | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def list(self, resource: GroupResource, namespace: str = "") -> Iterable[Obj]:
        objects = self._objects.get(resource, {})
        return [o for (home, _), o in sorted(objects.items()) if not namespace or home == namespace]

    def subscribe(
        self, resource: GroupResource, handler: Callable[[str, Obj, Obj | None], Any]
    ) -> None:
        self._handlers.setdefault(resource, []).append(handler)
        for obj in self.list(resource):
            handler("ADDED", obj, None)

    def put(self, resource: GroupResource, obj: Obj) -> None:
        key = (namespace_of(obj), name_of(obj))
        objects = self._objects.setdefault(resource, {})
        old = objects.get(key)
        objects[key] = obj
        for handler in self._handlers.get(resource, ()):
            handler("MODIFIED" if old else "ADDED", obj, old)

    def remove(self, resource: GroupResource, namespace: str, name: str) -> None:
        old = self._objects[resource].pop((namespace, name))
        for handler in self._handlers.get(resource, ()):
            handler("DELETED", old, old)
