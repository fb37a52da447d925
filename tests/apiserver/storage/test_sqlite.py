"""What is special to the SQLite store: the file, its lock, crashes, group commit, upkeep."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pilothouse.apiserver.storage.errors import (
    Compacted,
    Corrupt,
    KeyExists,
    StorageError,
    Unavailable,
)
from pilothouse.apiserver.storage.sqlite import SQLiteStorage
from pilothouse.apiserver.storage.sqlite_database import Database
from pilothouse.apiserver.storage.testing import RecordingSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pilothouse.apimachinery.testing import FakeClock
    from pilothouse.apiserver.storage.sqlite_database import Durability


@pytest.fixture(params=["normal", "full"])
def durability(request: pytest.FixtureRequest) -> Durability:
    durability: Durability = request.param
    return durability


@pytest.fixture
async def storage(
    clock: FakeClock, database: Path, durability: Durability
) -> AsyncIterator[SQLiteStorage]:
    store = SQLiteStorage(database, clock, durability=durability)
    await store.start()
    yield store
    await store.close()


async def reopened(storage: SQLiteStorage, clock: FakeClock, **options: int) -> SQLiteStorage:
    await storage.close()
    again = SQLiteStorage(storage._path, clock, **options)
    await again.start()
    return again


async def test_contents_history_and_ttl_survive_a_restart(
    storage: SQLiteStorage, clock: FakeClock
) -> None:
    r1 = await storage.create("/a/1", b"one")
    r2 = await storage.update("/a/1", b"two", expected=r1)
    await storage.create("/a/2", b"gone soon", ttl=60)
    again = await reopened(storage, clock)
    assert (await again.range("/a/", revision=r1)).kvs[0].value == b"one"
    sink = RecordingSink()
    again.watch("/a/", r2, sink)
    assert [event.value for event in sink.events] == [b"two", b"gone soon"]
    await clock.advance_through(61)
    await sink.until(lambda: sink.events[-1].type == "DELETE")
    assert (await again.range("/a/")).count == 1
    await again.close()


async def test_nobody_else_can_read_it(storage: SQLiteStorage, database: Path) -> None:
    await storage.create("/secrets/1", b"one")
    files = list(database.parent.glob(f"{database.name}*"))
    assert len(files) >= 2  # the write-ahead log, too
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


async def test_revisions_go_on_after_deleting_and_compacting_everything(
    storage: SQLiteStorage, clock: FakeClock
) -> None:
    revision = await storage.create("/a", b"x")
    last = await storage.delete("/a", expected=revision)
    await storage.compact(last)
    again = await reopened(storage, clock)
    assert await again.current_revision() == last
    with pytest.raises(Compacted):
        await again.range("/", revision=revision)
    assert await again.create("/a", b"y") == last + 1
    await again.close()


async def test_writes_of_one_turn_share_a_transaction(storage: SQLiteStorage) -> None:
    database = storage._database
    assert database is not None
    batches: list[int] = []
    apply = database.apply
    database.apply = lambda ops: (batches.append(len(ops)), apply(ops))[1]  # type: ignore[method-assign]
    results = await asyncio.gather(
        *(storage.create(f"/a/{number % 60}", b"x") for number in range(64)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, KeyExists) for result in results) == 4
    assert batches == [64]


async def test_a_second_process_is_refused(storage: SQLiteStorage, clock: FakeClock) -> None:
    other = SQLiteStorage(storage._path, clock)
    with pytest.raises(Unavailable, match="in use by another process"):
        await other.start()
    await storage.create("/a", b"still works")
    again = await reopened(storage, clock)
    await again.close()


async def test_a_closed_store_says_so(storage: SQLiteStorage) -> None:
    pending = asyncio.gather(*(storage.create(f"/a/{n}", b"x") for n in range(3)))
    await asyncio.sleep(0)
    await storage.close()
    assert len(set(await pending)) == 3
    for attempt in (storage.get("/a"), storage.create("/a", b"x"), storage.range("/")):
        with pytest.raises(Unavailable, match="closed"):
            await attempt


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "garbage":
        data = bytearray(b"no database at all" * 1000)
    elif how == "middle":
        # The header stays right: only reading finds it.
        data[4096:] = os.urandom(len(data) - 4096)
    elif how == "half":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["garbage", "middle", "half", "empty"])
async def test_a_damaged_file_is_reported_with_the_way_out(
    storage: SQLiteStorage, clock: FakeClock, how: str
) -> None:
    for number in range(50):
        await storage.create(f"/a/{number}", b"x" * 3000)
    await storage.close()
    damage(storage._path, how)
    storage._path.with_name(storage._path.name + ".lock").write_bytes(b"open")
    again = SQLiteStorage(storage._path, clock)
    with pytest.raises(Corrupt, match="pilothouse down --delete"):
        await again.start()
    # The lock is free again, so that the user can act.
    third = SQLiteStorage(storage._path, clock)
    with pytest.raises(Corrupt):
        await third.start()


async def test_damage_found_while_reading(storage: SQLiteStorage, clock: FakeClock) -> None:
    for number in range(50):
        await storage.create(f"/a/{number}", b"x" * 3000)
    await storage.close()
    damage(storage._path, "middle")
    again = SQLiteStorage(storage._path, clock)
    with pytest.raises(Corrupt, match="pilothouse down --delete"):
        await again.start()
        await again.range("/a/")
    await again.close()


async def test_another_programs_database_is_left_alone(clock: FakeClock, database: Path) -> None:
    database.parent.mkdir()
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE theirs(x)")
    connection.commit()
    connection.close()
    with pytest.raises(Corrupt, match="not made by this program"):
        await SQLiteStorage(database, clock).start()


async def test_a_place_that_cannot_be_written(clock: FakeClock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        await SQLiteStorage(tmp_path / "file" / "state.db", clock).start()


async def test_a_full_disk_fails_the_write_and_nothing_else(storage: SQLiteStorage) -> None:
    database = storage._database
    assert database is not None
    revision = await storage.create("/a", b"x")
    pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Unavailable, match="full"):
        await storage.create("/b", b"x" * 100_000)
    assert await storage.current_revision() == revision
    database._connection.execute("PRAGMA max_page_count = 1000000")
    assert await storage.create("/b", b"x" * 100_000) == revision + 1


async def test_history_is_bounded_without_a_compactor(
    clock: FakeClock, database: Path, durability: Durability
) -> None:
    storage = SQLiteStorage(database, clock, durability=durability, max_history=50)
    await storage.start()
    revision = await storage.create("/a", b"0")
    for number in range(300):
        revision = await storage.update("/a", b"%d" % number, expected=revision)
    await storage.compact(0)
    await storage._my_turn()
    rows = storage._database._execute("SELECT count(*) FROM log").fetchone()  # type: ignore[union-attr]
    assert rows[0] <= 60
    assert (await storage.range("/")).kvs == [("/a", b"299", revision)]
    await storage.close()


async def test_checkpoints_keep_the_log_small_while_writes_go_on(
    storage: SQLiteStorage, database: Path
) -> None:
    sink = RecordingSink()
    storage.watch("/a/", 1, sink)
    for batch in range(8):
        keys = [f"/a/{batch}-{number}" for number in range(250)]
        await asyncio.gather(*(storage.create(key, b"x" * 4000) for key in keys))
        assert await storage.get(keys[0]) is not None
    assert len(sink.events) == 2000
    log = database.with_name(database.name + "-wal")
    assert log.stat().st_size < 24 << 20
    assert (await storage.range("/a/", limit=1)).count == 2000


async def test_a_long_log_begins_anew_though_writes_never_pause(
    storage: SQLiteStorage, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.apiserver.storage.sqlite_database._CHECKPOINT_PAGES", 100)
    monkeypatch.setattr("pilothouse.apiserver.storage.sqlite_database._LONG_LOG_PAGES", 400)
    both: list[str] = []
    for name in ("checkpoint_beside", "checkpoint"):
        work = getattr(Database, name)
        monkeypatch.setattr(
            Database, name, lambda self, name=name, work=work: both.append(name) or work(self)
        )

    async def write(worker: int) -> None:
        for number in range(400):
            await storage.create(f"/a/{worker}-{number}", b"x" * 4000)

    await asyncio.gather(*map(write, range(4)))
    assert "checkpoint" in both and both.count("checkpoint_beside") > both.count("checkpoint")
    written = (await storage.range("/a/", limit=1)).count
    log = database.with_name(database.name + "-wal")
    assert written == 1600 and log.stat().st_size < 10 << 20
    await storage.close()
    assert not log.exists()


async def test_writes_of_several_turns_share_a_commit(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as each turn of the loop brings more; one that comes alone doesn't wait."""
    commits: list[int] = []
    apply = Database.apply
    monkeypatch.setattr(
        Database, "apply", lambda self, ops: commits.append(len(ops)) or apply(self, ops)
    )
    writes = []
    for number in range(12):
        writes += [storage.create(f"/a/{number}-{i}", b"x") for i in range(2)]
        writes = [asyncio.ensure_future(write) for write in writes]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)
    assert sum(commits) == 24 and len(commits) <= 4
    commits.clear()
    await storage.create("/a/alone", b"x")
    assert commits == [1]


async def test_writes_go_on_beside_a_checkpoint(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint does not end before a later write is acknowledged."""
    monkeypatch.setattr("pilothouse.apiserver.storage.sqlite_database._CHECKPOINT_PAGES", 1)
    written, work = threading.Event(), Database.checkpoint_beside

    def wait_for_a_write(self: Database) -> None:
        assert written.wait(10)
        work(self)

    monkeypatch.setattr(Database, "checkpoint_beside", wait_for_a_write)
    for number in range(3):
        await storage.create(f"/a/{number}", b"x" * 4000)
    written.set()


_WRITER = """
import asyncio, sys
from pathlib import Path
from pilothouse.apimachinery.clock import RealClock
from pilothouse.apiserver.storage.sqlite import SQLiteStorage

async def write(storage, worker):
    number = 0
    while True:
        number += 1
        revision = await storage.create(f"/w/{sys.argv[3]}/{worker}/{number}", b"v%d" % number)
        if number % 3 == 0:
            revision = await storage.update(
                f"/w/{sys.argv[3]}/{worker}/{number}", b"u%d" % number, expected=revision)
        sys.stdout.write(f"{worker} {number} {revision}\\n")
        sys.stdout.flush()

async def main():
    storage = SQLiteStorage(Path(sys.argv[1]), RealClock(), durability=sys.argv[2])
    await storage.start()
    await asyncio.gather(*(write(storage, worker) for worker in range(4)))

asyncio.run(main())
"""


def write_until_killed(database: Path, durability: str, round_: int) -> list[tuple[str, int, int]]:
    """(worker, number, revision) of everything that the child had acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(database), durability, str(round_)],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(random.randint(1, 400))]
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    whole = b"".join(lines) + rest
    complete = whole[: whole.rfind(b"\n") + 1].decode().splitlines()
    return [(w, int(n), int(r)) for w, n, r in (line.split() for line in complete)]


async def test_nothing_acknowledged_is_lost_by_kill_9(
    clock: FakeClock, database: Path, durability: Durability
) -> None:
    highest = 0
    acknowledged: dict[str, tuple[bytes, int]] = {}
    for round_ in range(4):
        written = write_until_killed(database, durability, round_)
        assert written
        revisions = [revision for _, _, revision in written]
        assert min(revisions) > highest, "a revision was used twice"
        for worker, number, revision in written:
            value = b"%s%d" % (b"v" if number % 3 else b"u", number)
            acknowledged[f"/w/{round_}/{worker}/{number}"] = (value, revision)
        storage = SQLiteStorage(database, clock)
        await storage.start()
        stored = {kv.key: (kv.value, kv.mod_revision) for kv in (await storage.range("/w/")).kvs}
        for key, wanted in acknowledged.items():
            assert stored[key] == wanted
        highest = await storage.current_revision()
        assert highest >= max(revisions)
        # History is whole, too: every revision is there once.
        sink = RecordingSink()
        storage.watch("/", 2, sink)
        assert [event.revision for event in sink.events] == list(range(2, highest + 1))
        await storage.close()


async def test_an_unexpected_failure_in_the_thread_fails_only_its_batch(
    clock: FakeClock, database: Path
) -> None:
    storage = SQLiteStorage(database, clock, durability="full")
    await storage.start()
    opened = storage._database
    assert opened is not None
    apply = opened.apply
    opened.apply = lambda ops: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(StorageError, match="division"):
        await storage.create("/a", b"x")
    opened.apply = apply  # type: ignore[method-assign]
    await storage.create("/a", b"x")
    await storage.close()
