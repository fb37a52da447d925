"""What is served now: built-in kinds and, at run time, custom ones.

A :class:`ServedResource` is one (group, version, resource) with what is needed to serve it; its
schema, strategy and store come into being on first use, so that a server with 80 kinds starts
as fast as one with none. :class:`ResourceRegistry` is the table that requests look into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.storage.keys import list_prefix, object_key, resource_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apis.resource import Resource
    from pilothouse.apiserver.registry.store import Store
    from pilothouse.apiserver.registry.strategy import Strategy


_DEPRECATED = {
    ("", "v1", "Endpoints"): "v1 Endpoints is deprecated in v1.33+; "
    "use discovery.k8s.io/v1 EndpointSlice",
    ("", "v1", "ComponentStatus"): "v1 ComponentStatus is deprecated in v1.19+",
}


class Converter(Protocol):
    """Between the served version of a kind and the one that is stored. Pure; new objects."""

    field_labels: dict[str, str]
    """Field selectors of the served version in terms of the stored one."""

    def to_storage(self, obj: Obj) -> Obj: ...

    def from_storage(self, obj: Obj) -> Obj: ...


class ServedResource:
    """One served resource. ``load_*`` are called once, on first use.

    ``converter`` is None when the served version is the stored one.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        load_schema: Callable[[], TypeSchema],
        load_strategy: Callable[[], Strategy],
        load_store: Callable[[ServedResource], Store],
        converter: Converter | None = None,
    ) -> None:
        self.resource = resource
        self.gvk = resource.gvk
        self.gvr = resource.gvr
        self.group_resource = resource.group_resource
        self.api_version = resource.api_version
        self.namespaced = resource.namespaced
        self.verbs = frozenset(resource.verbs)
        self.subresources = {sub.name: sub for sub in resource.subresources}
        self.converter = converter
        self.prefix = storage_prefix(resource)
        self.head_length = len(f'{{"kind":"{resource.kind}","apiVersion":"{self.api_version}",')
        """Length of what an encoded object has before its metadata; lists leave it out."""
        deprecated = _DEPRECATED.get(resource.gvk)
        self.warnings: tuple[str, ...] = (deprecated,) if deprecated else ()
        """Said with every answer about this version of the kind."""
        self._load_schema = load_schema
        self._load_strategy = load_strategy
        self._load_store = load_store
        self._schema: TypeSchema | None = None
        self._strategy: Strategy | None = None
        self._store: Store | None = None

    @property
    def schema(self) -> TypeSchema:
        if self._schema is None:
            self._schema = self._load_schema()
        return self._schema

    @property
    def strategy(self) -> Strategy:
        if self._strategy is None:
            self._strategy = self._load_strategy()
        return self._strategy

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = self._load_store(self)
        return self._store

    def key(self, namespace: str, name: str) -> str:
        """:raises StatusError: 400, a part is no path segment."""
        return object_key(self.prefix, namespace if self.namespaced else "", name)

    def list_prefix(self, namespace: str) -> str:
        return list_prefix(self.prefix, namespace if self.namespaced else "")

    def __repr__(self) -> str:
        return f"ServedResource({self.gvr.resource}.{self.api_version})"


def storage_prefix(resource: Resource) -> str:
    """The key prefix of a row, ending in "/"."""
    if resource.storage_prefix:
        return resource.storage_prefix.rstrip("/") + "/"
    group = resource.group if resource.storage_group is None else resource.storage_group
    return resource_prefix(GroupResource(group, resource.name), built_in=not resource.custom)


class ResourceRegistry:
    """Lookup by (group, version, resource) and by kind; may change at any time."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str, str], ServedResource] = {}
        self._kinds: dict[GroupVersionKind, ServedResource] = {}
        self._callbacks: list[Callable[[], None]] = []
        self.generation = 0
        """Grows with every change."""

    def lookup(self, group: str, version: str, resource: str) -> ServedResource | None:
        return self._served.get((group, version, resource))

    def by_kind(self, gvk: GroupVersionKind) -> ServedResource | None:
        return self._kinds.get(gvk)

    def by_group_resource(self, resource: GroupResource) -> ServedResource | None:
        """Any served version, the first that was added."""
        for served in self._served.values():
            if served.group_resource == resource:
                return served
        return None

    def all(self) -> list[ServedResource]:
        """In the order in which they were added."""
        return list(self._served.values())

    def add(self, *resources: ServedResource) -> None:
        """Serves ``resources`` from now on, in place of others of the same name."""
        self.change(resources, ())

    def remove(self, *resources: ServedResource) -> None:
        self.change((), resources)

    def change(self, add: Iterable[ServedResource], remove: Iterable[ServedResource]) -> None:
        """Both in one step and with one notification."""
        for served in remove:
            key = tuple(served.gvr)
            if self._served.get(key) is served:  # type: ignore[arg-type]
                del self._served[key]  # type: ignore[arg-type]
            if self._kinds.get(served.gvk) is served:
                del self._kinds[served.gvk]
        for served in add:
            gvr = served.gvr
            self._served[gvr.group, gvr.version, gvr.resource] = served
            self._kinds[served.gvk] = served
        self.generation += 1
        for callback in self._callbacks:
            callback()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` after each later change."""
        self._callbacks.append(callback)
