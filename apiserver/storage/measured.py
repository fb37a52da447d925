"""A store that counts what it does: ``etcd_request_duration_seconds`` and its relatives.

Wraps any :class:`Storage` for the stores of kinds, which write through it; watch caches read
the bare store, whose revision is on every request's path.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.errors import StorageError, TooLarge
from pilothouse.apiserver.storage.keys import REGISTRY
from pilothouse.apiserver.trace_context import CURRENT, span
from pilothouse.componentbase.histograms import Series
from pilothouse.componentbase.metrics import Collected, CollectedHistogram

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apiserver.storage.interfaces import KeyValue, RangeResult, Storage
    from pilothouse.componentbase.metrics import Labels, Metric

BUCKETS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
)  # fmt: skip
_SERVICES = f"{REGISTRY}services"
_SPANS = {
    "get": "Get etcd3",
    "list": "List etcd3",
    "create": "Create etcd3",
    "update": "GuaranteedUpdate etcd3",
    "delete": "Delete etcd3",
}
MAX_REQUEST = 3 << 19
"""Bytes of one of etcd's requests (--max-request-bytes), whatever the store is: an object that was
accepted can be moved to etcd."""
_NAMES = ("operation", "group", "resource")


def check_size(value: bytes) -> None:
    """:raises TooLarge: etcd would not take it. (In protobuf an escape of JSON is one byte.)"""
    if len(value) > MAX_REQUEST and len(value) - value.count(b"\\") > MAX_REQUEST:
        raise TooLarge


class MeasuredStorage:
    """``label_of`` gives (group, resource) of a key's prefix below ``/registry/``."""

    def __init__(self, storage: Storage, label_of: Callable[[str], tuple[str, str]]) -> None:
        self._storage = storage
        self._label_of = label_of
        self._labels: dict[str, tuple[str, str]] = {}
        self._seconds: dict[Labels, Series] = {}
        self._errors: dict[Labels, int] = {}
        self.synchronous_watch = storage.synchronous_watch
        self.watch = storage.watch
        self.start = storage.start
        self.close = storage.close
        self.current_revision = storage.current_revision
        self.compact = storage.compact

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    @property
    def compacted_revision(self) -> int:
        return self._storage.compacted_revision

    def _record(self, operation: str, key: str, start: float, failed: bool) -> None:
        end = key.find("/", len(REGISTRY))
        head = key[:end]
        if "." in head or head == _SERVICES:
            head = key[: key.find("/", end + 1)]
        label = self._labels.get(head)
        if label is None:
            label = self._label_of(key)
            if len(self._labels) < 1000:
                self._labels[head] = label
        labels = (operation, *label)
        series = self._seconds.get(labels)
        if series is None:
            series = self._seconds[labels] = Series(BUCKETS)
        series.observe(time.perf_counter() - start)
        if failed:
            self._errors[labels] = self._errors.get(labels, 0) + 1

    async def _timed(self, operation: str, key: str, call: Awaitable[Any]) -> Any:
        start = time.perf_counter()
        failed = True
        try:
            if CURRENT.get() is None:
                result = await call
            else:
                with span(_SPANS[operation], key=key):
                    result = await call
            failed = False
            return result
        except StorageError:
            # Conflicts and keys that exist are answers.
            failed = False
            raise
        finally:
            self._record(operation, key, start, failed)

    async def get(self, key: str) -> KeyValue | None:
        found: KeyValue | None = await self._timed("get", key, self._storage.get(key))
        return found

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        call = self._storage.range(prefix, start=start, limit=limit, revision=revision)
        found: RangeResult = await self._timed("list", prefix, call)
        return found

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        check_size(value)
        call = self._storage.create(key, value, ttl=ttl)
        revision: int = await self._timed("create", key, call)
        return revision

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        check_size(value)
        call = self._storage.update(key, value, expected=expected, ttl=ttl)
        revision: int = await self._timed("update", key, call)
        return revision

    async def delete(self, key: str, *, expected: int) -> int:
        call = self._storage.delete(key, expected=expected)
        revision: int = await self._timed("delete", key, call)
        return revision

    def metrics(self) -> tuple[Metric, ...]:
        return (
            CollectedHistogram(
                "etcd_request_duration_seconds",
                "[ALPHA] Etcd request latency in seconds for each operation and object type.",
                _NAMES,
                lambda: self._seconds.items(),
            ),
            Collected(
                "etcd_requests_total",
                "[ALPHA] Etcd request counts for each operation and object type.",
                "counter",
                _NAMES,
                lambda: [(k, float(sum(s.counts))) for k, s in self._seconds.items()],
            ),
            Collected(
                "etcd_request_errors_total",
                "[ALPHA] Etcd failed request counts for each operation and object type.",
                "counter",
                _NAMES,
                lambda: [(k, float(count)) for k, count in self._errors.items()],
            ),
        )
