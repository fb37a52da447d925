"""The store of one served version of a custom kind.

Each version has a store and a watch cache of its own over the same keys, in which objects are in
that version: stored bytes are converted, pruned and defaulted when they enter the cache, and
objects are converted to the storage version when they are written. So nothing else needs to
know that there are versions. Where a webhook converts, that happens below the cache
(``converting_storage.py``), so that nothing here has to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import (
    StatusError,
    new_forbidden,
    new_not_found,
    new_unclassified,
)
from pilothouse.apiserver.registry.interpret import interpret
from pilothouse.apiserver.registry.store import Store
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.errors import StorageError, Unconvertible
from pilothouse.apiserver.storage.versioner import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.apiextensions.converting_storage import ConvertingStorage
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
        if context.encryption is not None:
            storage = context.encryption.wrap(storage, served.group_resource)
        self.kind = kind
        self._version = served.gvr.version
        self._api_version = served.api_version
        self._stored_api_version = f"{served.gvr.group}/{kind.storage_version}"
        self._stored = storage
        self._converting: ConvertingStorage | None = None
        if not kind.converter.synchronous:
            from pilothouse.apiserver.apiextensions.converting_storage import ConvertingStorage

            storage = self._converting = ConvertingStorage(storage, self, str(served.gvr))
        cacher = Cacher(
            storage,
            served.prefix,
            clock=context.clock,
            indexers={"metadata.name": lambda entry: entry.name},
            decode=None if self._converting is not None else self.decode,
        )
        if self._converting is not None:
            self._converting.known = cacher.get
        self.versions_differ = len(kind.crd_head["versions"]) > 1
        if self.versions_differ and self._converting is None:
            self.fits = self._check_fit
        super().__init__(served, storage, cacher, context, admission)

    # stored bytes → this version

    def decode(self, value: bytes) -> bytes:
        """Stored bytes as this version has them. :raises ValueError: no JSON object."""
        obj = self._stored_object(value)
        if obj.get("apiVersion") != self._api_version:
            obj = self._pruned(self.kind.converter.convert(obj, self._api_version))
        return _encoded(obj)

    def _stored_object(self, value: bytes) -> Obj:
        """Pruned and defaulted as its own version wants it."""
        obj: Any = orjson.loads(value)
        if not isinstance(obj, dict):
            raise ValueError("no JSON object")
        version = str(obj.get("apiVersion") or "").rpartition("/")[2]
        schema = self.kind.schemas.get(version)
        if schema is not None:
            obj = schema.coerce(obj, None)
            schema.default(obj)
        found: Obj = obj
        return found

    def _pruned(self, obj: Any) -> Obj:
        pruned: Obj = self.kind.schemas[self._version].coerce(obj, None)
        return pruned

    # the same for ConvertingStorage, where a webhook converts

    def at_once(self, value: bytes) -> bytes | None:
        try:
            obj = self._stored_object(value)
        except ValueError:
            return value  # the cache reports what is damaged
        return _encoded(obj) if obj.get("apiVersion") == self._api_version else None

    async def served_form(self, values: Sequence[bytes]) -> list[bytes]:
        """Values that ``at_once`` could not give. :raises Unconvertible: the webhook fails."""
        objs = [self._stored_object(value) for value in values]
        converted = await self.kind.converter.convert_all(objs, self._api_version)
        return [_encoded(self._pruned(obj)) for obj in converted]

    async def storage_form(self, value: bytes) -> bytes:
        """What is written of a value of this version. :raises Unconvertible: the webhook fails."""
        if self._api_version == self._stored_api_version:
            return value
        kind = self.kind
        objs = await kind.converter.convert_all([orjson.loads(value)], self._stored_api_version)
        return encode(kind.schemas[kind.storage_version].coerce(objs[0], None))

    def stored_form(self, key: str, obj: Obj, data: bytes) -> bytes:
        if self._converting is not None or self._api_version == self._stored_api_version:
            # What a new object lost of its status is filled in when it is read: not this object.
            return data if self._misses_status(obj) else super().stored_form(key, obj, data)
        kind = self.kind
        stored = kind.converter.convert(orjson.loads(data), self._stored_api_version)
        return encode(kind.schemas[kind.storage_version].coerce(stored, None))

    def _misses_status(self, obj: Obj) -> bool:
        return "status" not in obj and self.kind.schemas[self._version].fills_status

    def _unstored(self, key: str, data: bytes) -> Entry:
        if self._misses_status(orjson.loads(data)):
            data = self.decode(data)
        return super()._unstored(key, data)

    async def written(self, key: str, data: bytes, revision: int) -> Entry:
        """With a webhook: what reading it back gives, which is what watchers see."""
        converting = self._converting
        if converting is None or self._api_version == self._stored_api_version:
            return self.cacher.written(key, data, revision)
        await converting.delivered()
        entry = self.cacher.get(key)
        if entry is not None and entry.revision == revision:
            return entry
        found = await self._stored.get(key)
        if found is None or found.mod_revision != revision:
            return self.cacher.written(key, data, revision)  # others have been quicker
        try:
            value = (await converting.convert([found]))[0]
        except StorageError as error:
            raise interpret(error, "get", self.resource, "") from error
        return self.cacher.written(key, value, revision)

    def _check_fit(self, obj: Obj, api_version: str) -> None:
        """:raises TypedError: that version has no place for a field of ``obj``."""
        from pilothouse.apimachinery.managedfields.validate import validate

        schema = self.kind.schemas.get(api_version.rpartition("/")[2])
        if schema is not None:
            validate(obj, schema.node)

    async def reconcile_managers(self, write: Write, live: Obj, obj: Obj, *, apply: bool) -> None:
        from pilothouse.apimachinery.managedfields.apply import ApplyConflict
        from pilothouse.apimachinery.managedfields.typed import TypedError
        from pilothouse.apiserver.apiextensions import foreign_managers as foreign

        comparisons = {}
        for api_version in foreign.foreign_versions(obj, self._api_version):
            schema = self.kind.schemas.get(api_version.rpartition("/")[2])
            if schema is None:
                continue
            try:
                old, new = await self.kind.converter.convert_all([live, obj], api_version)
                comparisons[api_version] = foreign.compare_in(old, new, schema.node)
            except (StorageError, TypedError) as error:
                if apply:
                    text = f"failed to convert new object: {error}"
                    raise new_unclassified(text) from error
                # As upstream: tracking does not stop a write.
                foreign.keep_managers(obj, live)
                return
        if comparisons:
            refuse = apply and not write.force
            try:
                foreign.reconcile(obj, comparisons, refuse=refuse)
            except ApplyConflict as error:
                raise error.to_status_error() from error

    # While a webhook fails on one object, others can be had one by one.

    async def get(self, namespace: str, name: str, resource_version: str = "") -> Entry:
        try:
            return await super().get(namespace, name, resource_version)
        except StatusError as error:
            if self._converting is None or not isinstance(error.__cause__, Unconvertible):
                raise
        entry = await self.read(self.served.key(namespace, name))
        if entry is None:
            raise new_not_found(self.resource, name)
        return entry

    async def live(self, key: str) -> Entry | None:
        try:
            return await super().live(key)
        except StatusError as error:
            if self._converting is None or not isinstance(error.__cause__, Unconvertible):
                raise
        return await self.read(key)

    async def follow(self) -> None:
        try:
            await super().follow()
        except Unconvertible:
            return

    async def outdated(self, key: str) -> bool:
        """Writing an object without changing it brings it to the storage version."""
        if await super().outdated(key):
            return True
        if not self.kind.migrating:
            return False
        found = await self._stored.get(key)
        if found is None:
            return False
        stored = orjson.loads(found.value)
        return bool(stored.get("apiVersion") != self._stored_api_version)

    async def close(self) -> None:
        """Ends the cache, its watchers and conversions."""
        await self.cacher.close()
        if self._converting is not None:
            await self._converting.close()

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


def _encoded(obj: Obj) -> bytes:
    metadata = obj.get("metadata")
    if isinstance(metadata, dict) and not metadata.get("generation"):
        metadata["generation"] = 1
    return encode(obj)
