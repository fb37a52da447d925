"""A store whose values are encrypted below and plain above, for one kind.

Put between a kind's cache and the store only where a rule names the kind, so that others pay
nothing. The ciphers take microseconds: watches stay synchronous.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.encryption.transformers import TransformError
from pilothouse.apiserver.storage.errors import KeyExists, RevisionConflict, Untransformable

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.storage.encryption.configuration import EncryptionRules
    from pilothouse.apiserver.storage.interfaces import (
        KeyValue,
        RangeResult,
        Storage,
        StorageEvent,
        WatchHandle,
        WatchSink,
    )

log = logging.getLogger(__name__)


class ResourceCipher:
    """Encrypts and decrypts the values of one kind, and knows what each was written with.

    Shared by the kind's cache and its writers."""

    def __init__(self, encryption: Encryption, resource: GroupResource) -> None:
        self._encryption = encryption
        self._resource = resource
        self._tags: dict[str, bytes] = {}

    def encrypt(self, key: str, value: bytes) -> bytes:
        return self._encryption.rules.transformers(self._resource).encrypt(key, value)

    def decrypt(self, key: str, value: bytes, *, current: bool = True) -> bytes:
        """``current``: not one of an older revision. :raises Untransformable: upstream's text."""
        transformers = self._encryption.rules.transformers(self._resource)
        try:
            plain, tag = transformers.decrypt(key, value)
        except TransformError as error:
            raise Untransformable(f'unable to transform key "{key}": {error}') from error
        if current:
            self._tags[key] = tag
        else:
            self._tags.setdefault(key, tag)
        return plain

    def forget(self, key: str) -> None:
        self._tags.pop(key, None)

    def stale(self, key: str) -> bool:
        """Whether the value is not as it would be written now."""
        tag = self._tags.get(key)
        now = self._encryption.rules.transformers(self._resource).tag
        return tag is not None and tag != now


class Encryption:
    """The rules of one API server; exchanged as a whole when the file changes."""

    def __init__(self, rules: EncryptionRules, *, reloads: bool = False) -> None:
        self.rules = rules
        self._reloads = reloads
        self._ciphers: dict[GroupResource, ResourceCipher] = {}

    def wrap(self, storage: Storage, resource: GroupResource) -> Storage:
        """``storage`` itself when no rule is for this kind, nor can come to be."""
        if not self._reloads and self.rules.configured(resource) is None:
            return storage
        cipher = self._ciphers.get(resource)
        if cipher is None:
            cipher = self._ciphers[resource] = ResourceCipher(self, resource)
        return EncryptedStorage(storage, cipher)


class EncryptedStorage:
    """Implements ``storage/interfaces.py`` Storage; the errors' values are plain, too."""

    def __init__(self, storage: Storage, cipher: ResourceCipher) -> None:
        self._storage = storage
        self._cipher = cipher
        self.synchronous_watch = storage.synchronous_watch

    def __getattr__(self, name: str) -> Any:
        """What embedded stores offer besides."""
        return getattr(self._storage, name)

    def stale(self, key: str) -> bool:
        """Whether the object is to be written anew although nothing in it has changed."""
        return self._cipher.stale(key)

    async def start(self) -> None:
        """The store below has its own owner."""

    async def close(self) -> None:
        """The store below has its own owner."""

    def _plain(self, kv: KeyValue | None) -> KeyValue | None:
        return None if kv is None else kv._replace(value=self._cipher.decrypt(kv.key, kv.value))

    async def get(self, key: str) -> KeyValue | None:
        return self._plain(await self._storage.get(key))

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        page = await self._storage.range(prefix, start=start, limit=limit, revision=revision)
        decrypt, current = self._cipher.decrypt, not revision
        kvs = [kv._replace(value=decrypt(kv.key, kv.value, current=current)) for kv in page.kvs]
        return page._replace(kvs=kvs)

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        try:
            return await self._storage.create(key, self._cipher.encrypt(key, value), ttl=ttl)
        except KeyExists as error:
            raise KeyExists(self._plain(error.current)) from error

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        stored = self._cipher.encrypt(key, value)
        try:
            return await self._storage.update(key, stored, expected=expected, ttl=ttl)
        except RevisionConflict as error:
            raise RevisionConflict(self._plain(error.current)) from error

    async def delete(self, key: str, *, expected: int) -> int:
        try:
            return await self._storage.delete(key, expected=expected)
        except RevisionConflict as error:
            raise RevisionConflict(self._plain(error.current)) from error

    async def current_revision(self) -> int:
        return await self._storage.current_revision()

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> WatchHandle:
        return self._storage.watch(prefix, start_revision, _Sink(sink, self._cipher))

    @property
    def compacted_revision(self) -> int:
        return self._storage.compacted_revision

    async def compact(self, revision: int) -> None:
        await self._storage.compact(revision)


class _Sink:
    """Between the store's watch and the cache's."""

    def __init__(self, sink: WatchSink, cipher: ResourceCipher) -> None:
        self._sink = sink
        self._cipher = cipher

    def on_events(self, events: list[StorageEvent], revision: int) -> None:
        plain: list[StorageEvent] = []
        for event in events:
            try:
                plain.append(self._decrypted(event))
            except Untransformable as error:
                log.error("left out of the watch cache: %s", error)
        self._sink.on_events(plain, revision)

    def _decrypted(self, event: StorageEvent) -> StorageEvent:
        key, previous = event.key, event.prev_value
        if previous is not None:
            previous = self._cipher.decrypt(key, previous, current=False)
        value = self._cipher.decrypt(key, event.value)
        if event.type == "DELETE":
            self._cipher.forget(key)
        return event._replace(value=value, prev_value=previous)

    def on_closed(self, error: Exception | None) -> None:
        self._sink.on_closed(error)
