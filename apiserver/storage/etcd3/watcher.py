"""Events from etcd: one watch stream for the whole store, shared by all sinks.

The stream follows every key, so each revision of the store shows up on it: what it has delivered
last is exactly how fresh all watch caches are, without etcd's progress messages (which could
overtake events in releases before 2024). It resumes from the last delivered revision + 1, never
from a header's. Recent events are kept, so that a sink that starts a little in the past is
served from memory; an older start is caught up by a stream of its own, which ends where the
shared one stands.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc.aio

from pilothouse.apiserver.storage.errors import Compacted, StorageError, Unavailable
from pilothouse.apiserver.storage.etcd3 import messages as pb
from pilothouse.apiserver.storage.interfaces import StorageEvent
from pilothouse.apiserver.storage.watch_hub import Watch, WatchHub
from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.etcd3.client import EtcdClient
    from pilothouse.apiserver.storage.interfaces import WatchSink

log = logging.getLogger(__name__)

_EVERYTHING = b"\0"
_RECENT = 4096
_RETRY_SECONDS = 0.1
_FIRST_EVENT = 2
"""Revision 1 is an empty etcd; the first write makes 2."""


class EtcdWatcher:
    """Feeds a WatchHub. ``start`` with the revision to follow from."""

    def __init__(self, client: EtcdClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._hub = WatchHub(0)
        self._recent: list[StorageEvent] = []
        self._recent_after = 0
        """All events after this revision, up to the hub's, are in ``_recent``."""
        self._tasks = TaskOwner("etcd-watch")

    @property
    def revision(self) -> int:
        return self._hub.revision

    def start(self, revision: int) -> None:
        self._hub.revision = self._recent_after = revision
        self._tasks.start(self._run(), "stream")

    async def close(self) -> None:
        await self._tasks.close()
        self._hub.close()

    def add(self, prefix: str, start_revision: int, sink: WatchSink) -> Watch:
        watch = self._hub.add(prefix, start_revision, sink)
        start = max(start_revision, _FIRST_EVENT)
        if start <= self._recent_after:
            # Nothing may overtake the history.
            watch.next_revision = 1 << 63
            self._tasks.start(self._catch_up(watch, start), f"catch-up{prefix}")
        elif start <= self._hub.revision:
            self._replay(watch, start)
        return watch

    def _replay(self, watch: Watch, start: int) -> None:
        """Delivers what the shared stream already had, then joins it."""
        position = bisect_left(self._recent, start, key=_revision_of)
        events = [e for e in self._recent[position:] if e.key.startswith(watch.prefix)]
        watch.next_revision = self._hub.revision + 1
        if events:
            watch.sink.on_events(events, self._hub.revision)

    # --- the shared stream ------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                async with aclosing(self._stream(self._hub.revision + 1)) as stream:
                    async for events in stream:
                        self._deliver(events)
            except Compacted as error:
                log.warning("etcd watch lost its place: %s", error)
                self._skip_to(error)
            except StorageError as error:
                log.info("etcd watch: %s", error)
                await self._recover(error)

    async def _recover(self, error: StorageError) -> None:
        await self._clock.sleep(_RETRY_SECONDS)
        try:
            await self._client.log_in_again(error)
        except StorageError as failure:
            log.info("etcd login: %s", failure)

    def _deliver(self, events: list[StorageEvent]) -> None:
        recent = self._recent
        recent += events
        if len(recent) > 2 * _RECENT:
            self._recent_after = recent[-_RECENT - 1].revision
            # A revision with several events is kept or dropped as a whole.
            del recent[: bisect_left(recent, self._recent_after + 1, key=_revision_of)]
        self._hub.dispatch(events)
        self._hub.announce()

    def _skip_to(self, error: Compacted) -> None:
        """Goes on at the compacted revision. Watches that wanted something older are ended (they
        list again); those that begin later miss nothing."""
        self._recent = []
        self._hub.revision = self._recent_after = error.compacted - 1
        self._hub.close_before(error.compacted, error)

    async def _stream(self, start_revision: int) -> AsyncGenerator[list[StorageEvent], None]:
        """Batches of events from ``start_revision`` on, until the stream breaks.

        :raises Compacted: ``start_revision`` is gone. :raises Unavailable: broken, open another.
        """
        endpoint = self._client.pick()
        call = self._client.watch_call(endpoint)
        create = pb.WatchCreateRequest(
            key=_EVERYTHING, range_end=_EVERYTHING, start_revision=start_revision, prev_kv=True
        )
        try:
            await call.write(pb.WatchRequest(create_request=create))
            while True:
                answer = await call.read()
                if answer is grpc.aio.EOF:
                    raise Unavailable(f"etcd: {endpoint.url} ended the watch")
                if answer.canceled:
                    raise _cancelled(answer, start_revision)
                if answer.events:
                    yield [_event(event) for event in answer.events]
        except grpc.aio.AioRpcError as error:
            self._client.avoid(endpoint)
            text = f"etcd: {endpoint.url}: {error.code().name}: {error.details()}"
            raise Unavailable(text) from error
        except asyncio.InvalidStateError as error:
            # What grpc says when the call ended before the request could be written.
            self._client.avoid(endpoint)
            raise Unavailable(f"etcd: {endpoint.url}: {error}") from error
        finally:
            call.cancel()

    # --- starts that are older than what is kept --------------------------------------------

    async def _catch_up(self, watch: Watch, start: int) -> None:
        target = self._hub.revision
        while not watch.closed:
            try:
                async with aclosing(self._stream(start)) as stream:
                    async for events in stream:
                        if watch.closed:
                            return
                        start = events[-1].revision + 1
                        due = [event for event in events if event.revision <= target]
                        self._hand_over(watch, due, target)
                        # Each revision has an event, so the target's comes for certain.
                        if start > target:
                            self._join(watch, target + 1)
                            return
            except Compacted as error:
                watch.close(error)
            except StorageError as error:
                log.info("etcd watch of %s: %s", watch.prefix, error)
                await self._recover(error)

    def _hand_over(self, watch: Watch, events: list[StorageEvent], target: int) -> None:
        mine = [event for event in events if event.key.startswith(watch.prefix)]
        if mine:
            watch.sink.on_events(mine, min(mine[-1].revision, target))

    def _join(self, watch: Watch, start: int) -> None:
        if start <= self._recent_after:
            # The shared stream has moved on by more than is kept: once more.
            self._tasks.start(self._catch_up(watch, start), f"catch-up{watch.prefix}")
        elif start <= self._hub.revision:
            self._replay(watch, start)
        else:
            watch.next_revision = start


def _revision_of(event: StorageEvent) -> int:
    return event.revision


def _cancelled(answer: Any, start_revision: int) -> StorageError:
    if answer.compact_revision:
        return Compacted(start_revision, int(answer.compact_revision))
    return Unavailable(f"etcd cancelled the watch: {answer.cancel_reason}")


def _event(event: Any) -> StorageEvent:
    kv, prev = event.kv, event.prev_kv
    before = prev.value if prev.mod_revision else None
    key = kv.key.decode("utf-8", "surrogateescape")
    if event.type == pb.EVENT_DELETE:
        return StorageEvent(
            "DELETE", key, before or b"", kv.mod_revision, before, prev.mod_revision
        )
    return StorageEvent("PUT", key, kv.value, kv.mod_revision, before, prev.mod_revision)
