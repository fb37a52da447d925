"""A store whose values are encrypted below and plain above, for one kind.

Put between a kind's cache and the store only where a rule names the kind, so that others pay
nothing. The ciphers take microseconds: watches stay synchronous.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.encryption.transformers import Locked, TransformError
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
        """:raises Untransformable: a plugin is away."""
        try:
            return self._encryption.rules.transformers(self._resource).encrypt(key, value)
        except TransformError as error:
            raise Untransformable(str(error)) from error

    async def open(self, key: str, value: bytes, *, current: bool = True) -> bytes:
        """``decrypt`` for callers that may wait for a plugin."""
        while True:
            try:
                return self.decrypt(key, value, current=current)
            except Locked as locked:
                try:
                    await locked.unlock()
                except TransformError as error:
                    raise Untransformable(f'unable to transform key "{key}": {error}') from error

    def decrypt(self, key: str, value: bytes, *, current: bool = True) -> bytes:
        """``current``: not one of an older revision. :raises Untransformable: upstream's text.
        :raises Locked: ``open`` it."""
        transformers = self._encryption.rules.transformers(self._resource)
        try:
            plain, tag = transformers.decrypt(key, value)
        except Locked:
            raise
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

    @property
    def uses_plugins(self) -> bool:
        """Or may come to."""
        return self._reloads or bool(self.rules.plugins)

    async def problem(self) -> str | None:
        """The health check ``kms-providers``."""
        return "; ".join(each.problem for each in self.rules.plugins if each.problem) or None

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

    async def _plain(self, kv: KeyValue | None) -> KeyValue | None:
        return None if kv is None else kv._replace(value=await self._cipher.open(kv.key, kv.value))

    async def get(self, key: str) -> KeyValue | None:
        return await self._plain(await self._storage.get(key))

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        page = await self._storage.range(prefix, start=start, limit=limit, revision=revision)
        current = not revision
        kvs = [
            kv._replace(value=await self._cipher.open(kv.key, kv.value, current=current))
            for kv in page.kvs
        ]
        return page._replace(kvs=kvs)

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        try:
            return await self._storage.create(key, self._cipher.encrypt(key, value), ttl=ttl)
        except KeyExists as error:
            raise KeyExists(await self._plain(error.current)) from error

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        stored = self._cipher.encrypt(key, value)
        try:
            return await self._storage.update(key, stored, expected=expected, ttl=ttl)
        except RevisionConflict as error:
            raise RevisionConflict(await self._plain(error.current)) from error

    async def delete(self, key: str, *, expected: int) -> int:
        try:
            return await self._storage.delete(key, expected=expected)
        except RevisionConflict as error:
            raise RevisionConflict(await self._plain(error.current)) from error

    async def current_revision(self) -> int:
        return await self._storage.current_revision()

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> WatchHandle:
        between = _Sink(sink, self._cipher)
        return between.follow(self._storage.watch(prefix, start_revision, between))

    @property
    def compacted_revision(self) -> int:
        return self._storage.compacted_revision

    async def compact(self, revision: int) -> None:
        await self._storage.compact(revision)


class _Sink:
    """Between the store's watch and the cache's: the sink of the one, the handle of the other."""

    def __init__(self, sink: WatchSink, cipher: ResourceCipher) -> None:
        self._sink = sink
        self._cipher = cipher
        self._below: WatchHandle | None = None
        self._waiting: list[tuple[list[StorageEvent], int]] = []
        self._worker: asyncio.Task[None] | None = None
        self._ended = False

    def follow(self, below: WatchHandle) -> WatchHandle:
        self._below = below
        if self._ended:
            below.cancel()
        return self

    def on_events(self, events: list[StorageEvent], revision: int) -> None:
        if self._ended:
            return
        if self._worker is None:
            try:
                plain = self._decrypted(events)
            except Locked:
                pass
            else:
                self._sink.on_events(plain, revision)
                return
        # Something has been written with a seed of another server's: later events wait, too.
        self._waiting.append((events, revision))
        if self._worker is None:
            loop = asyncio.get_running_loop()
            self._worker = loop.create_task(self._work(), name="decrypt-events")

    async def _work(self) -> None:
        try:
            while self._waiting and not self._ended:
                events, revision = self._waiting.pop(0)
                for event in events:
                    for value in (event.value, event.prev_value):
                        if value is not None:
                            await self._unlocked(event.key, value)
                if not self._ended:
                    self._sink.on_events(self._decrypted(events), revision)
        except Locked as error:
            self._end(Untransformable(str(error)))
        finally:
            self._worker = None

    async def _unlocked(self, key: str, value: bytes) -> None:
        try:
            await self._cipher.open(key, value, current=False)
        except Untransformable as error:
            # Better a new list than a hole: the cache starts again.
            self._end(error)

    def _decrypted(self, events: list[StorageEvent]) -> list[StorageEvent]:
        plain: list[StorageEvent] = []
        for event in events:
            try:
                plain.append(self._one(event))
            except Untransformable as error:
                log.error("left out of the watch cache: %s", error)
        return plain

    def _one(self, event: StorageEvent) -> StorageEvent:
        key, previous = event.key, event.prev_value
        if previous is not None:
            previous = self._cipher.decrypt(key, previous, current=False)
        value = self._cipher.decrypt(key, event.value)
        if event.type == "DELETE":
            self._cipher.forget(key)
        return event._replace(value=value, prev_value=previous)

    def on_closed(self, error: Exception | None) -> None:
        if not self._ended:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._waiting.clear()
        if self._below is not None:
            self._below.cancel()
        self._sink.on_closed(error)

    def cancel(self) -> None:
        worker = self._worker
        self._end(None)
        if worker is not None:
            worker.cancel()
