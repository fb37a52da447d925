"""The database file of the embedded store: schema and statements, no event loop.

``log`` has a row per revision, so history for watches is the log itself; ``live`` maps each
existing key to its row. ``prev`` links a row to the one that it replaced, which is how an old
state is read (undo what came later) and how compaction knows what nobody can ask for any more:

    log    rev | key | prev | value (NULL: a delete)
    live   key | rev | expires
    meta   name | value         ("compacted")

The newest row is never removed, so the revision counter survives everything that the file does.
One connection, used by one thread at a time, and another one for checkpoints beside the writes; the
file is locked against other processes.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

from pilothouse.apiserver.storage.errors import (
    Corrupt,
    KeyExists,
    RevisionConflict,
    StorageError,
    Unavailable,
)
from pilothouse.apiserver.storage.interfaces import KeyValue, StorageEvent
from pilothouse.apiserver.storage.key_index import prefix_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pilothouse.apiserver.storage.expiry import Due

Durability = Literal["normal", "full"]

_APPLICATION_ID = 0x50484F55
_SCHEMA_VERSION = 1
_FIRST_REVISION = 1
_CHECKPOINT_PAGES, _LONG_LOG_PAGES = 4000, 16_000
_CHECK_UNDER_BYTES = 32 << 20
"""After an unclean end, files up to this size are checked as a whole before they are used."""

_SCHEMA = f"""
CREATE TABLE log(rev INTEGER PRIMARY KEY, key TEXT NOT NULL, prev INTEGER NOT NULL, value BLOB);
CREATE TABLE live(key TEXT PRIMARY KEY, rev INTEGER NOT NULL, expires REAL) WITHOUT ROWID;
CREATE INDEX live_expires ON live(expires) WHERE expires IS NOT NULL;
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES('compacted', 0);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_SCHEMA_VERSION};
"""

_GET = "SELECT live.rev, log.value FROM live LEFT JOIN log ON log.rev = live.rev WHERE live.key = ?"
_LIST = """
SELECT live.key, log.value, live.rev FROM live LEFT JOIN log ON log.rev = live.rev
WHERE live.key >= ? AND live.key < ? ORDER BY live.key LIMIT ?"""
_COUNT = "SELECT count(*) FROM live WHERE key >= ? AND key < ?"
# Of a key's rows after the revision, the first one links to the state at the revision
# (SQLite takes bare columns from the row that has the minimum).
_PAST = """
WITH later AS (
  SELECT key, prev, MIN(rev) FROM log WHERE rev > :revision AND key >= :low AND key < :high
  GROUP BY key),
past AS (
  SELECT key, rev FROM live WHERE key >= :low AND key < :high AND rev <= :revision
  UNION ALL SELECT key, prev FROM later WHERE prev > 0)
"""
_PAST_LIST = (
    _PAST
    + """
SELECT past.key, log.value, past.rev FROM past LEFT JOIN log ON log.rev = past.rev
WHERE past.key >= :start ORDER BY past.key LIMIT :limit"""
)
_PAST_COUNT = _PAST + "SELECT count(*) FROM past"
_HISTORY = """
SELECT log.rev, log.key, log.value, log.prev, before.value
FROM log LEFT JOIN log AS before ON before.rev = log.prev
WHERE log.rev >= ? AND log.rev <= ? AND log.key >= ? AND log.key < ? ORDER BY log.rev"""
_DROP_REPLACED = """
DELETE FROM log WHERE rev IN
  (SELECT prev FROM log WHERE rev >= ? AND rev < ? AND prev > 0)"""
_DROP_DELETES = "DELETE FROM log WHERE rev >= ? AND rev < ? AND value IS NULL"


class Op(NamedTuple):
    """A queued write. ``expected`` is for update and delete."""

    kind: Literal["create", "update", "delete"]
    key: str
    value: bytes
    expected: int
    expires: float | None


Outcome = StorageEvent | StorageError


class Database:
    """An open database file. :raises Corrupt: when the file is damaged, from any method."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._lock = _lock(path)
        try:
            with self._guarded():
                self._connection = self._open(durability)
        except BaseException:
            self._lock.close()
            raise
        self._execute = self._connection.execute
        self._second: sqlite3.Connection | None = None
        self._pages = 0
        """About how many pages the write-ahead log has grown since the last checkpoint."""
        self.log_is_long = False
        """Writes have come without a pause: :meth:`checkpoint` is due."""

    def _open(self, durability: Durability) -> sqlite3.Connection:
        unclean = self._lock.read(16) == b"open"
        if unclean and self.path.exists() and self.path.stat().st_size == 0:
            raise sqlite3.DatabaseError("the file is empty, but was in use")
        # Secrets are in it: nobody else may read it, wherever it is. The log gets the same mode.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            self._prepare(connection, durability, unclean)
        except BaseException:
            connection.close()
            raise
        self._mark(b"open")
        return connection

    def _prepare(
        self, connection: sqlite3.Connection, durability: Durability, unclean: bool
    ) -> None:
        run = connection.execute
        run("PRAGMA wal_autocheckpoint = 0")
        run(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
        run("PRAGMA journal_mode = WAL")
        (identity,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        if not identity and not run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
        elif identity != _APPLICATION_ID or version != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError("the file was not made by this program")
        elif unclean and self.path.stat().st_size <= _CHECK_UNDER_BYTES:
            (result,) = run("PRAGMA quick_check(1)").fetchone()
            if result != "ok":
                raise sqlite3.DatabaseError(result)
        newest = run("SELECT MAX(rev) FROM log").fetchone()[0]
        self.revision: int = newest or _FIRST_REVISION
        (self.compacted,) = run("SELECT value FROM meta WHERE name = 'compacted'").fetchone()

    def close(self) -> None:
        """Folds the write-ahead log into the file and marks a clean end."""
        try:
            if self._second is not None:
                self._second.close()
            self._connection.close()
            self._mark(b"closed")
        finally:
            self._lock.close()

    def _mark(self, state: bytes) -> None:
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(state)
        self._lock.flush()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "malformed" in text or "not a database" in text:
                raise self._damaged(error) from error
            raise Unavailable(f"database {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception | str) -> Corrupt:
        return Corrupt(
            f"the database {self.path} is damaged ({error}). Restore the file from a backup, or "
            "give its contents up with `pilothouse down --delete` and start again."
        )

    # --- writing ---------------------------------------------------------------------------

    def apply(self, ops: list[Op]) -> list[Outcome]:
        """Runs the writes in one transaction; a failed condition fails only its own write."""
        revision = self.revision
        with self._guarded():
            self._execute("BEGIN IMMEDIATE")
            try:
                outcomes = [self._apply(op) for op in ops]
                self._execute("COMMIT")
            except BaseException:
                self.revision = revision
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                raise
        return outcomes

    def _apply(self, op: Op) -> Outcome:
        key = op.key
        row = self._execute(_GET, (key,)).fetchone()
        current = KeyValue(key, self._present(key, row[1]), row[0]) if row else None
        if op.kind == "create":
            if current is not None:
                return KeyExists(current)
        elif current is None or current.mod_revision != op.expected:
            return RevisionConflict(current)
        previous = (current.value, current.mod_revision) if current else (None, 0)
        self.revision = revision = self.revision + 1
        if op.kind == "delete":
            self._execute("INSERT INTO log VALUES(?, ?, ?, NULL)", (revision, key, previous[1]))
            self._execute("DELETE FROM live WHERE key = ?", (key,))
            self._pages += 3
            return StorageEvent("DELETE", key, previous[0] or b"", revision, *previous)
        self._execute("INSERT INTO log VALUES(?, ?, ?, ?)", (revision, key, previous[1], op.value))
        if current is None:
            self._execute("INSERT INTO live VALUES(?, ?, ?)", (key, revision, op.expires))
        else:
            self._execute(
                "UPDATE live SET rev = ?, expires = ? WHERE key = ?", (revision, op.expires, key)
            )
        self._pages += 3 + (len(op.value) >> 12)
        return StorageEvent("PUT", key, op.value, revision, *previous)

    # --- reading ---------------------------------------------------------------------------

    def get(self, key: str) -> KeyValue | None:
        with self._guarded():
            row = self._execute(_GET, (key,)).fetchone()
        return KeyValue(key, self._present(key, row[1]), row[0]) if row else None

    def page(
        self, prefix: str, start: str, limit: int, revision: int
    ) -> tuple[list[KeyValue], bool, int]:
        """(keys from ``start`` on, whether there are more, count of the prefix)."""
        low, high = prefix, prefix_end(prefix) or "\U0010ffff"
        start = max(low, start)
        bound = limit + 1 if limit else -1
        with self._guarded():
            if revision < self.revision:
                rows = self._past(low, high, start, bound, revision)
            else:
                rows = self._execute(_LIST, (start, high, bound)).fetchall()
            found = [KeyValue(key, self._present(key, value), rev) for key, value, rev in rows]
            more = bool(limit) and len(found) > limit
            if not more and start == low:
                return found, False, len(found)
            count = self._count(low, high, revision)
        return found[:limit] if more else found, more, count

    def _past(
        self, low: str, high: str, start: str, bound: int, revision: int
    ) -> list[tuple[str, bytes | None, int]]:
        named = {"low": low, "high": high, "start": start, "limit": bound, "revision": revision}
        return self._execute(_PAST_LIST, named).fetchall()

    def _count(self, low: str, high: str, revision: int) -> int:
        if revision >= self.revision:
            row = self._execute(_COUNT, (low, high)).fetchone()
        else:
            named = {"low": low, "high": high, "revision": revision}
            row = self._execute(_PAST_COUNT, named).fetchone()
        count: int = row[0]
        return count

    def history(self, prefix: str, first: int, last: int) -> list[StorageEvent]:
        """The writes under ``prefix`` from revision ``first`` to ``last``."""
        high = prefix_end(prefix) or "\U0010ffff"
        events: list[StorageEvent] = []
        with self._guarded():
            rows = self._execute(_HISTORY, (first, last, prefix, high)).fetchall()
        for revision, key, value, prev, before in rows:
            if prev and before is None:
                raise self._damaged(f"revision {prev} of {key} is missing")
            if value is None:
                event = StorageEvent("DELETE", key, before, revision, before, prev)
            else:
                event = StorageEvent("PUT", key, value, revision, before, prev)
            events.append(event)
        return events

    def _present(self, key: str, value: bytes | None) -> bytes:
        if value is None:
            raise self._damaged(f"the value of {key} is missing")
        return value

    def expiring(self) -> list[Due]:
        with self._guarded():
            return self._execute(
                "SELECT expires, key, rev FROM live WHERE expires IS NOT NULL"
            ).fetchall()

    # --- upkeep ----------------------------------------------------------------------------

    def compact(self, revision: int) -> None:
        """Drops replaced values and deletes below ``revision`` in one transaction."""
        first = self.compacted
        with self._guarded():
            self._execute("BEGIN IMMEDIATE")
            try:
                self._execute(_DROP_REPLACED, (first, revision))
                self._execute(_DROP_DELETES, (first, revision))
                self._execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (revision,))
                self._execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                raise
        self.compacted = revision
        self._pages += (revision - first) // 4

    @property
    def checkpoint_due(self) -> bool:
        return self._pages >= _CHECKPOINT_PAGES

    def checkpoint_beside(self) -> None:
        """Moves most of the write-ahead log into the file, on a connection of its own, while
        writes go on: syncing thousands of pages takes a tenth of a second."""
        self._pages = 0
        with self._guarded():
            if self._second is None:
                self._second = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
                self._second.execute("PRAGMA synchronous = NORMAL")
            row = self._second.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.log_is_long = row[1] > _LONG_LOG_PAGES

    def checkpoint(self) -> None:
        """Moves the rest, while nobody writes: only then, or in a pause, does the log begin anew.
        Without that it would grow for as long as writes come."""
        self.log_is_long = False
        with self._guarded():
            self._execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _lock(path: Path) -> BinaryIO:
    """Locks the database against other processes for as long as the file is open. The lock
    file also says whether the last owner closed the database."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"database {path} cannot be opened: {error.strerror}") from error
    file = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Unavailable(
            f"the database {path} is in use by another process; stop that one first, or choose "
            "another data directory"
        ) from error
    return file
