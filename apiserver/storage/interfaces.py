"""The one protocol behind which etcd, SQLite and memory stand.

Keys are ``/registry/<resource>/<namespace>/<name>`` (``/registry/<group>/<resource>/...`` for
custom resources and groups with a dot, as upstream). Values are opaque bytes and hold no
resourceVersion: the revision of the write is the resourceVersion, spliced in when read
(``versioner.py``). Revisions grow by at least one with each write, over all keys, and are
never reused, also after a restart. Every backend passes ``storage/testing.py``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol


class KeyValue(NamedTuple):
    """A key's value and the revision of the write that made it."""

    key: str
    value: bytes
    mod_revision: int


class RangeResult(NamedTuple):
    """``kvs`` sorted by key, all as of ``revision``. ``count`` is of the whole prefix."""

    kvs: list[KeyValue]
    revision: int
    more: bool
    count: int  # type: ignore[assignment]


class StorageEvent(NamedTuple):
    """One write. ``prev_value`` is what the key held before (None for a create)."""

    type: Literal["PUT", "DELETE"]
    key: str
    value: bytes
    """The new value; for a delete the last value."""
    revision: int
    prev_value: bytes | None
    prev_revision: int


class WatchSink(Protocol):
    """Where a watch delivers, on the event loop and in order of revision; must not block."""

    def on_events(self, events: list[StorageEvent], revision: int) -> None:
        """``events`` may be empty: then everything up to ``revision`` has been delivered."""
        ...

    def on_closed(self, error: Exception | None) -> None:
        """The watch has ended. ``Compacted`` when its start is gone; None after ``cancel``."""
        ...


class WatchHandle(Protocol):
    def cancel(self) -> None: ...


class Storage(Protocol):
    """Linearizable key-value store with revisions and watches. Errors: ``storage/errors.py``.

    A write that raises ``OutcomeUnknown`` may have happened; the caller re-reads and compares.
    """

    synchronous_watch: bool
    """True when a write's events reach all sinks before the write returns (embedded stores),
    so that a cache fed by ``watch`` is never behind."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def get(self, key: str) -> KeyValue | None:
        """The current value, linearizable."""
        ...

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """Keys under ``prefix`` from key ``start`` on (inclusive), as of ``revision`` (0: now).

        :raises Compacted: ``revision`` is compacted away.  :raises FutureRevision: not there yet.
        """
        ...

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        """Writes a new key and returns the revision. ``ttl``: seconds until it is deleted, 0 never.

        :raises KeyExists: with the current KeyValue.
        """
        ...

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        """Replaces the value if its mod revision is ``expected``; returns the new revision.

        :raises RevisionConflict: with the current KeyValue, or None when the key is gone.
        """
        ...

    async def delete(self, key: str, *, expected: int) -> int:
        """Deletes the key if its mod revision is ``expected``; returns the delete's revision.

        :raises RevisionConflict: as for ``update``.
        """
        ...

    async def current_revision(self) -> int:
        """The newest revision of the whole store (linearizable)."""
        ...

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> WatchHandle:
        """Delivers every event under ``prefix`` with revision >= ``start_revision`` to ``sink``."""
        ...

    @property
    def compacted_revision(self) -> int:
        """Older revisions are gone, as far as this process knows; caches must not serve them."""
        ...

    async def compact(self, revision: int) -> None:
        """Forgets history below ``revision``; current values stay."""
        ...
