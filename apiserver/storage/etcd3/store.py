"""The etcd store: each write is one transaction guarded by the key's mod revision.

A call without an answer may have taken effect. Because of the guard it can simply be repeated:
if the first try did take effect, the second fails its compare, and the key's history tells whose
write it was (values hold a uid or a time, so equal bytes are ours). Only what cannot be told in
time is reported as ``OutcomeUnknown``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.errors import (
    Compacted,
    FutureRevision,
    KeyExists,
    OutcomeUnknown,
    RevisionConflict,
    StorageError,
)
from pilothouse.apiserver.storage.etcd3 import messages as pb
from pilothouse.apiserver.storage.etcd3.client import (
    Ambiguous,
    EtcdClient,
    EtcdConfig,
    OutOfRange,
)
from pilothouse.apiserver.storage.etcd3.compact import EtcdCompactor
from pilothouse.apiserver.storage.etcd3.health import check_health
from pilothouse.apiserver.storage.etcd3.lease import LeaseManager
from pilothouse.apiserver.storage.etcd3.watcher import EtcdWatcher
from pilothouse.apiserver.storage.interfaces import KeyValue, RangeResult
from pilothouse.apiserver.storage.key_index import prefix_end

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.interfaces import WatchHandle, WatchSink

_HISTORY_STEPS = 16
_COUNTS = 32
_HEALTH = pb.RangeRequest(key=b"/registry/health")
"""Any read through the quorum tells the newest revision in its header."""


class EtcdStorage:
    """A Storage (``storage/interfaces.py``) on an etcd v3 cluster."""

    synchronous_watch = False

    def __init__(self, config: EtcdConfig, clock: Clock) -> None:
        self._client = EtcdClient(config, clock)
        self._watcher = EtcdWatcher(self._client, clock)
        self._leases = LeaseManager(self._client, clock)
        self._counts: dict[tuple[str, int], int] = {}
        self.compactor = EtcdCompactor(self._client)

    async def start(self) -> None:
        """:raises Unavailable: no member answers."""
        try:
            await self._client.connect()
            answer = await self._client.read("range", _HEALTH, self._client.config.start_timeout)
        except BaseException:
            await self._client.close()
            raise
        self._watcher.start(int(answer.header.revision))

    async def close(self) -> None:
        await self._watcher.close()
        await self._client.close()

    async def check_health(self) -> str:
        """ "" when etcd answers, else why not."""
        return await check_health(self._client)

    # --- reading ----------------------------------------------------------------------------

    async def get(self, key: str) -> KeyValue | None:
        answer = await self._client.read("range", pb.RangeRequest(key=key.encode()))
        return _key_value(answer.kvs[0]) if answer.kvs else None

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        low = max(prefix, start).encode() or b"\0"
        end = prefix_end(prefix).encode() or b"\0"
        if end != b"\0" and low >= end:
            low = end
        request = pb.RangeRequest(key=low, range_end=end, limit=limit, revision=revision)
        try:
            answer = await self._client.read("range", request)
            count = int(answer.count)
            at = revision or int(answer.header.revision)
            if start > prefix:
                count = await self._count(prefix, end, at)
            elif answer.more:
                self._remember_count(prefix, at, count)
        except OutOfRange as error:
            if error.compacted:
                raise Compacted(revision, self.compactor.compacted) from error
            raise FutureRevision(revision, await self.current_revision()) from error
        return RangeResult([_key_value(kv) for kv in answer.kvs], at, bool(answer.more), count)

    def _remember_count(self, prefix: str, revision: int, count: int) -> None:
        """The pages after the first ask for the same count again."""
        if len(self._counts) >= _COUNTS:
            del self._counts[next(iter(self._counts))]
        self._counts[prefix, revision] = count

    async def _count(self, prefix: str, end: bytes, revision: int) -> int:
        known = self._counts.get((prefix, revision))
        if known is not None:
            return known
        request = pb.RangeRequest(
            key=prefix.encode() or b"\0", range_end=end, revision=revision, count_only=True
        )
        return int((await self._client.read("range", request)).count)

    async def current_revision(self) -> int:
        answer = await self._client.read("range", _HEALTH)
        return int(answer.header.revision)

    # --- writing ----------------------------------------------------------------------------

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        revision, current = await self._write(key, value, 0, ttl)
        if not revision:
            raise KeyExists(current)
        return revision

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        revision, current = await self._write(key, value, expected, ttl)
        if not revision:
            raise RevisionConflict(current)
        return revision

    async def delete(self, key: str, *, expected: int) -> int:
        revision, current = await self._write(key, None, expected, 0)
        if not revision:
            raise RevisionConflict(current)
        return revision

    async def _write(
        self, key: str, value: bytes | None, expected: int, ttl: int
    ) -> tuple[int, KeyValue | None]:
        """(revision of the write, -), or (0, current) when the guard failed."""
        lease = await self._leases.lease_for(ttl) if ttl else 0
        request = _guarded(key.encode(), value, expected, lease)
        budget = self._client.budget()
        in_doubt = False
        while True:
            try:
                answer = await self._client.call_once("txn", request, budget.for_call())
            except Ambiguous as error:
                in_doubt = True
                if not await budget.pause():
                    raise OutcomeUnknown(str(error)) from error
                continue
            if answer.succeeded:
                return int(answer.header.revision), None
            kvs = answer.responses[0].response_range.kvs
            current = _key_value(kvs[0]) if kvs else None
            if in_doubt:
                return await self._settle(key, value, expected, current), current
            return 0, current

    async def _settle(
        self, key: str, value: bytes | None, expected: int, current: KeyValue | None
    ) -> int:
        """After a try without an answer the guard failed: the revision at which that try did
        write, or 0 when it certainly didn't.

        :raises OutcomeUnknown: it cannot be told.
        """
        if value is None or current is None:
            # Deleted since: by us or by another, at a revision that only a watch would show.
            if current is None or current.mod_revision != expected:
                raise OutcomeUnknown(f"etcd: the outcome of a write to {key} is unknown")
            return 0
        at: KeyValue | None = current
        for _ in range(_HISTORY_STEPS):
            if at is None or at.mod_revision <= expected:
                return 0
            if at.value == value:
                return at.mod_revision
            at = await self._before(at)
        raise OutcomeUnknown(f"etcd: the outcome of a write to {key} is unknown")

    async def _before(self, kv: KeyValue) -> KeyValue | None:
        request = pb.RangeRequest(key=kv.key.encode(), revision=kv.mod_revision - 1)
        try:
            answer = await self._client.read("range", request)
        except StorageError as error:
            raise OutcomeUnknown(f"etcd: the history of {kv.key} is gone") from error
        return _key_value(answer.kvs[0]) if answer.kvs else None

    # --- history ----------------------------------------------------------------------------

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> WatchHandle:
        return self._watcher.add(prefix, start_revision, sink)

    @property
    def compacted_revision(self) -> int:
        return self.compactor.compacted

    async def compact(self, revision: int) -> None:
        try:
            await self.compactor.compact(revision)
        except OutOfRange as error:
            raise FutureRevision(revision, await self.current_revision()) from error


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key.decode("utf-8", "surrogateescape"), kv.value, kv.mod_revision)


def _guarded(key: bytes, value: bytes | None, expected: int, lease: int) -> Any:
    """Put (or, for None, delete) if the key's mod revision is ``expected``, else read it."""
    compare = pb.Compare(
        result=pb.COMPARE_EQUAL, target=pb.TARGET_MOD, key=key, mod_revision=expected
    )
    if value is None:
        write = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
    else:
        write = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))
    read = pb.RequestOp(request_range=pb.RangeRequest(key=key))
    return pb.TxnRequest(compare=[compare], success=[write], failure=[read])
