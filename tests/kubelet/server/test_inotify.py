from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pilothouse.kubelet.server.inotify import DirectoryWatches


async def changed(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()
    event.clear()


async def test_changes_reach_every_watcher_of_the_directory(tmp_path: Path) -> None:
    watches = DirectoryWatches()
    (tmp_path / "other").mkdir()
    first, second = watches.watch(str(tmp_path)), watches.watch(str(tmp_path))
    other = watches.watch(str(tmp_path / "other"))
    (tmp_path / "file").write_text("x")
    await changed(first)
    await changed(second)
    assert not other.is_set()
    watches.unwatch(first)
    watches.unwatch(first)
    (tmp_path / "file").rename(tmp_path / "renamed")
    await changed(second)
    assert not first.is_set()
    (tmp_path / "other" / "y").write_text("y")
    await changed(other)
    watches.unwatch(second)
    watches.unwatch(other)


async def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watches = DirectoryWatches()
    events = [watches.watch(str(tmp_path)) for _ in range(3)]
    for event in events:
        watches.unwatch(event)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_directory_that_goes_away(tmp_path: Path) -> None:
    watches = DirectoryWatches()
    gone = tmp_path / "gone"
    gone.mkdir()
    event = watches.watch(str(gone))
    (gone / "x").write_text("x")
    await changed(event)
    (gone / "x").unlink()
    gone.rmdir()
    await changed(event)
    watches.unwatch(event)


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectoryWatches().watch(str(tmp_path / "missing"))
