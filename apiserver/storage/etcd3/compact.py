"""Compaction that several API servers agree on (apiserver pkg/storage/etcd3/compact.go).

The version of ``compact_rev_key`` is a logical time. Whoever raises it from the version that it
knew compacts, namely the revision that was current when it last looked; the others only learn
the new version and revision. So history is dropped once per interval, never sooner than an
interval after it was written, also when a server dies or several run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.errors import StorageError
from pilothouse.apiserver.storage.etcd3 import messages as pb
from pilothouse.apiserver.storage.etcd3.client import Ambiguous, OutOfRange

if TYPE_CHECKING:
    from pilothouse.apiserver.storage.etcd3.client import EtcdClient

_COMPACT_REV_KEY = b"compact_rev_key"


class EtcdCompactor:
    """One server's part: call ``step`` once per interval."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._version = 0
        self._revision = 0
        self.compacted = 0
        """What is known to be compacted."""

    async def step(self) -> None:
        """:raises StorageError: etcd failed; the next step tries again."""
        compare = pb.Compare(
            result=pb.COMPARE_EQUAL,
            target=pb.TARGET_VERSION,
            key=_COMPACT_REV_KEY,
            version=self._version,
        )
        put = pb.PutRequest(key=_COMPACT_REV_KEY, value=b"%d" % self._revision)
        get = pb.RangeRequest(key=_COMPACT_REV_KEY)
        request = pb.TxnRequest(
            compare=[compare],
            success=[pb.RequestOp(request_put=put)],
            failure=[pb.RequestOp(request_range=get)],
        )
        answer = await self._call("txn", request)
        revision, self._revision = self._revision, int(answer.header.revision)
        if not answer.succeeded:
            kvs = answer.responses[0].response_range.kvs
            self._version = kvs[0].version if kvs else 0
            if kvs and kvs[0].value.isdigit():
                self.compacted = max(self.compacted, int(kvs[0].value))
            return
        self._version += 1
        if revision:
            await self.compact(revision)

    async def compact(self, revision: int) -> None:
        """Compacts at once. :raises OutOfRange: a future revision."""
        try:
            await self._call("compact", pb.CompactionRequest(revision=revision))
        except OutOfRange as error:
            if not error.compacted:
                raise
        self.compacted = max(self.compacted, revision)

    async def _call(self, method: str, request: object) -> Any:
        try:
            return await self._client.call_once(method, request, self._client.config.call_timeout)
        except Ambiguous as error:
            raise StorageError(str(error)) from error
