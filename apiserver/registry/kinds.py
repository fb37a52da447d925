"""The built-in kinds as served resources, and the stores behind all kinds.

Rows come from ``apis/resources.py``; strategies and schemas are loaded when a kind is first
used. Served versions that share their stored objects share one :class:`Store`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apiserver.registry.resources import ServedResource
from pilothouse.apiserver.registry.store import Store
from pilothouse.apiserver.storage.cacher.cacher import Cacher

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apis.resource import Resource
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import Converter, ResourceRegistry
    from pilothouse.apiserver.registry.store import Admission
    from pilothouse.apiserver.registry.strategy import Strategy
    from pilothouse.apiserver.storage.interfaces import Storage

_SERVICES = GroupResource("", "services")
_INDEXED_FIELDS = ("metadata.name", "spec.nodeName")
"""Fields that watches select by often: the cache only asks the watchers that such a value
concerns (upstream's IndexerFuncs)."""


class Kinds:
    """Makes served resources of the built-in rows, and the stores of all kinds."""

    def __init__(
        self,
        registry: ResourceRegistry,
        storage: Storage,
        context: RegistryContext,
        *,
        writes: Storage | None = None,
    ) -> None:
        self._registry = registry
        self._storage = storage
        self._writes = writes or storage
        """The same store as stores see it (measured); caches read the bare one."""
        self._context = context
        self._stores: dict[str, Store] = {}
        self.admission: Admission | None = None

    @property
    def late_admission(self) -> Admission:
        """The admission chain for stores that others make (custom resources)."""
        return _Late(self)

    def served(self) -> list[ServedResource]:
        return [self._serve(row) for row in BUILT_IN]

    def _serve(self, row: Resource) -> ServedResource:
        return ServedResource(
            row,
            load_schema=lambda: _schema(row),
            load_strategy=lambda: _strategy(row),
            load_store=self.store,
            converter=_converter(row),
        )

    def store(self, served: ServedResource) -> Store:
        """The store of a served resource, shared by prefix."""
        store = self._stores.get(served.prefix)
        if store is None:
            stored = self._stored(served)
            storage, writes = self._storage, self._writes
            if (encryption := self._context.encryption) is not None:
                storage = encryption.wrap(storage, stored.group_resource)
                writes = encryption.wrap(writes, stored.group_resource)
            cacher = Cacher(
                storage,
                served.prefix,
                clock=self._context.clock,
                indexers=lambda: _indexers(stored.strategy),
            )
            store = self._new_store(stored, writes, cacher)
            self._stores[served.prefix] = store
        return store

    def _new_store(self, stored: ServedResource, writes: Storage, cacher: Cacher) -> Store:
        if not self._storage.synchronous_watch and stored.group_resource == _SERVICES:
            from pilothouse.apiserver.registry.core.shared_allocations import (
                SharedAllocations,
                SharedServiceStore,
            )

            context = self._context
            guarded = SharedAllocations(writes, self._storage, context.clock, context.random)
            storage = cast("Storage", guarded)
            return SharedServiceStore(stored, storage, cacher, context, _Late(self))
        return Store(stored, writes, cacher, self._context, _Late(self))

    def _stored(self, served: ServedResource) -> ServedResource:
        """The served resource whose version is the stored one."""
        row = served.resource
        if not row.storage_version and row.storage_group is None:
            return served
        group = row.group if row.storage_group is None else row.storage_group
        version = row.storage_version or row.version
        return self._registry.lookup(group, version, row.name) or served

    def rebind(self, served: ServedResource) -> None:
        """Lets an existing store go on with another definition of its kind (a changed CRD);
        its cache and watchers stay."""
        store = self._stores.get(served.prefix)
        if store is not None:
            store.served = self._stored(served)

    async def forget(self, served: ServedResource) -> None:
        """Closes the store of a resource that is served no more (a deleted CRD)."""
        store = self._stores.pop(served.prefix, None)
        if store is not None:
            await store.cacher.close()

    async def close(self) -> None:
        for store in self._stores.values():
            await store.cacher.close()
        self._stores.clear()


class _Late:
    """The admission chain, which is made after the first stores."""

    __slots__ = ("_kinds",)

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    async def admit(self, attributes: Any) -> None:
        assert self._kinds.admission is not None
        await self._kinds.admission.admit(attributes)

    async def validate(self, attributes: Any) -> None:
        assert self._kinds.admission is not None
        await self._kinds.admission.validate(attributes)


def _indexers(strategy: Strategy) -> dict[str, Callable[[Any], str]]:
    indexers: dict[str, Callable[[Any], str]] = {"metadata.name": lambda entry: entry.name}
    if "spec.nodeName" in strategy.selectable_fields:
        indexers["spec.nodeName"] = lambda entry: (
            (entry.peek().get("spec") or {}).get("nodeName") or ""
        )
    return indexers


def _schema(row: Resource) -> TypeSchema:
    from pilothouse.apis.schemas import definition

    return definition(row.definition)


def _strategy(row: Resource) -> Strategy:
    from pilothouse.apiserver.registry.strategies import strategy_for

    return strategy_for(row.group_resource)


def _converter(row: Resource) -> Converter | None:
    if not row.storage_version:
        return None
    from pilothouse.apiserver.registry.conversion import CONVERTERS

    return CONVERTERS.get(row.gvr)
