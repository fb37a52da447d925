"""The store of one served version of a custom kind.

Each version has a store and a watch cache of its own over the same keys, in which objects are in
that version: stored bytes are converted, pruned and defaulted when they enter the cache, and
objects are converted to the storage version when they are written. So nothing else needs to
know that there are versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery.errors import new_forbidden
from pilothouse.apiserver.registry.store import Store
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.versioner import encode

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.apiextensions.serving import CustomKind
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.registry.store import Admission
    from pilothouse.apiserver.registry.write import Write
    from pilothouse.apiserver.storage.cacher.watch_cache import Entry
    from pilothouse.apiserver.storage.interfaces import Storage


class CustomStore(Store):
    """``served.gvr.version`` is the version that this store speaks."""

    def __init__(
        self,
        kind: CustomKind,
        served: ServedResource,
        storage: Storage,
        context: RegistryContext,
        admission: Admission,
    ) -> None:
        self.kind = kind
        cacher = Cacher(
            storage,
            served.prefix,
            clock=context.clock,
            indexers={"metadata.name": lambda entry: entry.name},
            decode=self.decode,
        )
        self._version = served.gvr.version
        self._api_version = served.api_version
        self._stored_api_version = f"{served.gvr.group}/{kind.storage_version}"
        super().__init__(served, storage, cacher, context, admission)

    def decode(self, value: bytes) -> bytes:
        """Stored bytes as this version has them. :raises ValueError: no JSON object."""
        obj = orjson.loads(value)
        if not isinstance(obj, dict):
            raise ValueError("no JSON object")
        kind = self.kind
        version = str(obj.get("apiVersion") or "").rpartition("/")[2]
        schema = kind.schemas.get(version)
        if schema is not None:
            obj = schema.coerce(obj, None)
            schema.default(obj)
        if obj.get("apiVersion") != self._api_version:
            obj = kind.converter.convert(obj, self._api_version)
            obj = kind.schemas[self._version].coerce(obj, None)
        metadata = obj.get("metadata")
        if isinstance(metadata, dict) and not metadata.get("generation"):
            metadata["generation"] = 1
        return encode(obj)

    def stored_form(self, key: str, obj: Obj, data: bytes) -> bytes:
        if self._api_version == self._stored_api_version:
            return super().stored_form(key, obj, data)
        kind = self.kind
        stored = kind.converter.convert(orjson.loads(data), self._stored_api_version)
        return encode(kind.schemas[kind.storage_version].coerce(stored, None))

    async def outdated(self, key: str) -> bool:
        """Writing an object without changing it brings it to the storage version."""
        if not self.kind.migrating:
            return False
        found = await self.storage.get(key)
        if found is None:
            return False
        stored = orjson.loads(found.value)
        return bool(stored.get("apiVersion") != self._stored_api_version)

    async def create(self, write: Write, obj: Obj) -> Entry:
        self._forbid_while_terminating(write)
        return await super().create(write, obj)

    async def create_admitted(self, write: Write, obj: Obj) -> Entry:
        self._forbid_while_terminating(write)
        return await super().create_admitted(write, obj)

    def _forbid_while_terminating(self, write: Write) -> None:
        if self.kind.terminating:
            reason = "create not allowed while custom resource definition is terminating"
            raise new_forbidden(self.resource, write.name, reason)
