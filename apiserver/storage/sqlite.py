"""The embedded store: one SQLite file, group commit, watches fed from its log.

Writes queue up during one turn of the event loop and are committed together at its end.
``durability="normal"`` commits on the loop: no disk sync is involved, an acknowledged write
survives the process, and a hop to a thread would cost more than the commit (measured: 0.2-0.3 ms
against 0.04 ms). ``"full"`` syncs the disk with each commit and does so in a worker thread.
Compactions, which sync as well, always go to the thread. The connection belongs to the loop or
to the thread, never to both: whoever comes meanwhile waits in line. A checkpoint syncs most of
what it moves on a connection of its own, while writes go on.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pilothouse.apiserver.storage.errors import (
    Compacted,
    FutureRevision,
    StorageError,
    Unavailable,
)
from pilothouse.apiserver.storage.expiry import Due, ExpiryQueue
from pilothouse.apiserver.storage.interfaces import KeyValue, RangeResult, StorageEvent
from pilothouse.apiserver.storage.sqlite_database import Database, Durability, Op, Outcome
from pilothouse.apiserver.storage.watch_hub import Watch, WatchHub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.storage.interfaces import WatchSink

T = TypeVar("T")
_Pending = tuple[Op, "asyncio.Future[int]"]

_MAX_BATCH = 512
_GATHER_SECONDS = 0.004
"""How long a commit waits at most for writes that keep coming."""
_COMPACT_STEP = 5000


class SQLiteStorage:
    """A Storage (``storage/interfaces.py``) in one file.

    ``max_history``: so many revisions are kept at most, also when nobody compacts.
    """

    synchronous_watch = True

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        durability: Durability = "normal",
        max_history: int = 200_000,
    ) -> None:
        self._path = path
        self._clock = clock
        self._durability = durability
        self._max_history = max_history
        self._database: Database | None = None
        self._hub = WatchHub(0)
        self._expiry = ExpiryQueue(clock, self._expire)
        self._queue: list[_Pending] = []
        self._flush_due = False
        self._waited_for = 0
        self._flush_by = 0.0
        self._threads: ThreadPoolExecutor | None = None
        self._in_thread = False
        self._line: list[asyncio.Future[None]] = []
        self._checkpointing: asyncio.Future[None] | None = None
        self._broken: StorageError | None = None

    @property
    def revision(self) -> int:
        """The newest revision that has been delivered (and so acknowledged)."""
        return self._hub.revision

    async def start(self) -> None:
        """:raises Corrupt: the file is damaged. :raises Unavailable: another process has it."""
        self._loop = asyncio.get_running_loop()
        self._database = database = Database(self._path, self._durability)
        self._hub = WatchHub(database.revision)
        self._expiry.load(database.expiring())
        self._expiry.arm()

    async def close(self) -> None:
        """Commits what is queued, then closes the file."""
        self._expiry.close()
        if self._database is None:
            return
        while self._queue or self._in_thread:
            await self._my_turn()
            self._flush()
        if self._checkpointing is not None:
            await asyncio.wait([self._checkpointing])
            await self._my_turn()
        self._hub.close()
        database, self._database = self._database, None
        try:
            database.close()
        finally:
            if self._threads is not None:
                self._threads.shutdown()

    def _opened(self) -> Database:
        if self._database is None:
            raise Unavailable("the store is closed")
        return self._database

    # --- whose turn it is -------------------------------------------------------------------

    async def _my_turn(self) -> None:
        """Waits until the thread has given the connection back."""
        while self._in_thread:
            future: asyncio.Future[None] = self._loop.create_future()
            self._line.append(future)
            await future

    def _lend(self, work: Callable[[], T], done: Callable[[asyncio.Future[T]], None]) -> None:
        """Gives the connection, which must be free, to the thread for ``work``; ``done`` runs on
        the loop before anybody else has it."""
        self._in_thread = True

        def finished(job: asyncio.Future[T]) -> None:
            try:
                done(job)
            finally:
                self._returned()

        self._loop.run_in_executor(self._executor(), work).add_done_callback(finished)

    def _executor(self) -> ThreadPoolExecutor:
        """One thread for what has the connection, one for the checkpoint beside it."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, thread_name_prefix="storage")
        return self._threads

    def _returned(self) -> None:
        self._in_thread = False
        line, self._line = self._line, []
        for future in line:
            if not future.done():
                future.set_result(None)
        # After those who stood in line.
        self._schedule_flush()

    # --- writing ----------------------------------------------------------------------------

    async def create(self, key: str, value: bytes, *, ttl: int = 0) -> int:
        return await self._write(Op("create", key, value, 0, self._deadline(ttl)))

    async def update(self, key: str, value: bytes, *, expected: int, ttl: int = 0) -> int:
        return await self._write(Op("update", key, value, expected, self._deadline(ttl)))

    async def delete(self, key: str, *, expected: int) -> int:
        return await self._write(Op("delete", key, b"", expected, None))

    def _deadline(self, ttl: int) -> float | None:
        return self._clock.time() + ttl if ttl else None

    def _write(self, op: Op) -> asyncio.Future[int]:
        self._opened()
        if self._broken is not None:
            raise self._broken
        future: asyncio.Future[int] = self._loop.create_future()
        self._queue.append((op, future))
        if not self._in_thread:
            self._schedule_flush()
        return future

    def _schedule_flush(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._waited_for = len(self._queue)
            self._flush_by = self._loop.time() + _GATHER_SECONDS
            self._loop.call_soon(self._flush_when_still)

    def _flush_when_still(self) -> None:
        """Commits at the end of the first turn of the loop that brought no more writes: many
        that come at once share a commit, though each turn begins only a few
        (``flowcontrol/turns.py``)."""
        queued = len(self._queue)
        if self._waited_for < queued < _MAX_BATCH and self._loop.time() < self._flush_by:
            self._waited_for = queued
            self._loop.call_soon(self._flush_when_still)
        else:
            self._flush()

    def _flush(self) -> None:
        """Commits everything that is queued."""
        self._flush_due = False
        database = self._database
        if self._in_thread or database is None:
            return
        # First, so that upkeep has its turn under constant load.
        self._look_after(database)
        if self._in_thread:
            return
        if self._queue:
            batch, self._queue = self._queue[:_MAX_BATCH], self._queue[_MAX_BATCH:]
            if self._durability == "full":
                self._commit_in_thread(database, batch)
                return
            try:
                outcomes = database.apply([op for op, _ in batch])
            except StorageError as error:
                self._fail(batch, error)
            else:
                self._complete(batch, outcomes)
        if self._queue:
            self._schedule_flush()

    def _commit_in_thread(self, database: Database, batch: list[_Pending]) -> None:
        def done(job: asyncio.Future[list[Outcome]]) -> None:
            error = job.exception()
            if error is None:
                self._complete(batch, job.result())
            elif isinstance(error, StorageError):
                self._fail(batch, error)
            else:
                self._fail(batch, Unavailable(f"database {self._path}: {error}"))

        self._lend(partial(database.apply, [op for op, _ in batch]), done)

    def _complete(self, batch: list[_Pending], outcomes: list[Outcome]) -> None:
        events = [outcome for outcome in outcomes if isinstance(outcome, StorageEvent)]
        if events:
            self._hub.dispatch(events)
        for (op, future), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StorageEvent):
                if op.expires is not None:
                    self._expiry.add(op.expires, op.key, outcome.revision)
                if not future.done():
                    future.set_result(outcome.revision)
            elif not future.done():
                future.set_exception(outcome)

    def _fail(self, batch: list[_Pending], error: StorageError) -> None:
        self._note(error)
        for _, future in batch:
            if not future.done():
                future.set_exception(type(error)(*error.args))

    def _note(self, error: StorageError) -> None:
        """A damaged file takes no more writes; a full disk may have room again later."""
        if not isinstance(error, Unavailable):
            self._broken = error

    def _expire(self, due: list[Due]) -> None:
        for _, key, revision in due:
            if self._database is None:
                return
            op = Op("delete", key, b"", revision, None)
            # A key that was written since is another one: the condition fails, and should.
            self._write(op).add_done_callback(_ignore)

    # --- reading ----------------------------------------------------------------------------

    async def get(self, key: str) -> KeyValue | None:
        if self._in_thread:
            await self._my_turn()
        return self._opened().get(key)

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        if self._in_thread:
            await self._my_turn()
        database = self._opened()
        if revision > database.revision:
            raise FutureRevision(revision, database.revision)
        if revision and revision < database.compacted:
            raise Compacted(revision, database.compacted)
        at = revision or database.revision
        kvs, more, count = database.page(prefix, start, limit, at)
        return RangeResult(kvs, at, more, count)

    async def current_revision(self) -> int:
        return self._hub.revision

    def reached(self, revision: int) -> asyncio.Future[None]:
        """Done when ``revision`` has been written and delivered."""
        return self._hub.reached(revision)

    def watch(self, prefix: str, start_revision: int, sink: WatchSink) -> Watch:
        """A watch from the future on is in place at once; history is read first otherwise, and
        delivered before this returns unless the thread has the connection just now."""
        watch = self._hub.add(prefix, start_revision, sink)
        if start_revision <= self._hub.revision:
            # Nothing may overtake the history.
            watch.next_revision = 1 << 63
            self._catch_up(watch, start_revision)
        return watch

    def _catch_up(self, watch: Watch, start_revision: int) -> None:
        if watch.closed:
            return
        if self._in_thread:
            line = self._loop.create_future()
            line.add_done_callback(lambda _: self._catch_up(watch, start_revision))
            self._line.append(line)
            return
        error: StorageError | None = None
        events: list[StorageEvent] = []
        last = self._hub.revision
        try:
            database = self._opened()
            if start_revision < database.compacted:
                error = Compacted(start_revision, database.compacted)
            else:
                events = database.history(watch.prefix, start_revision, last)
        except StorageError as failure:
            error = failure
        if error is not None:
            self._loop.call_soon(watch.close, error)
            return
        watch.next_revision = last + 1
        if events:
            watch.sink.on_events(events, last)

    # --- upkeep -----------------------------------------------------------------------------

    @property
    def compacted_revision(self) -> int:
        return 0 if self._database is None else self._database.compacted

    async def compact(self, revision: int) -> None:
        """In steps, between which writes have their turn."""
        database = self._opened()
        if revision > self._hub.revision:
            raise FutureRevision(revision, self._hub.revision)
        while True:
            await self._my_turn()
            database = self._opened()
            if database.compacted >= revision:
                return
            waiter: asyncio.Future[None] = self._loop.create_future()
            step = min(revision, database.compacted + _COMPACT_STEP)
            self._lend(partial(database.compact, step), partial(_pass_on, waiter))
            await waiter

    def _look_after(self, database: Database) -> None:
        """Starts in the thread what has become due: a checkpoint, or dropping old history."""
        if self._checkpointing is not None:
            return
        if database.log_is_long:
            self._lend(database.checkpoint, self._looked_after)
        elif database.checkpoint_due:
            self._checkpointing = self._loop.run_in_executor(
                self._executor(), database.checkpoint_beside
            )
            self._checkpointing.add_done_callback(partial(self._finish_checkpoint, database))
        elif database.revision - database.compacted > self._max_history:
            step = min(database.compacted + _COMPACT_STEP, database.revision)
            self._lend(partial(database.compact, step), self._looked_after)

    def _finish_checkpoint(self, database: Database, job: asyncio.Future[None]) -> None:
        self._checkpointing = None
        self._looked_after(job)
        if database.log_is_long:
            self._schedule_flush()

    def _looked_after(self, job: asyncio.Future[None]) -> None:
        error = job.exception()
        if isinstance(error, StorageError):
            self._note(error)


def _pass_on(waiter: asyncio.Future[None], job: asyncio.Future[None]) -> None:
    error = job.exception()
    if waiter.done():
        return
    if error is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(None)


def _ignore(future: asyncio.Future[int]) -> None:
    if not future.cancelled():
        future.exception()
