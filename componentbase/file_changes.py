"""Tells when a file has changed: inotify on its folder, and a look every minute besides.

A configuration file is often replaced by renaming another one over it, or is a link into a
folder that is exchanged (as the kubelet mounts ConfigMaps): so the folder is watched, and the
contents decide whether anything has changed. Where inotify is not to be had, the minute remains.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

INTERVAL = 60.0
_MASK = 0x008 | 0x040 | 0x080 | 0x100 | 0x200
"""Closed after writing, moved from and to, created, deleted."""


class FileChanges:
    """``async for data in FileChanges(path, clock).follow(data)``: the new contents, each time
    that they differ from what was given last. A file that is gone counts as unchanged."""

    def __init__(self, path: str | Path, clock: Clock, interval: float = INTERVAL) -> None:
        self._path = Path(path)
        self._clock = clock
        self._interval = interval
        self._changed = asyncio.Event()

    async def follow(self, data: bytes) -> AsyncIterator[bytes]:
        descriptor = self._watch()
        try:
            while True:
                await self._wait()
                self._changed.clear()
                try:
                    new = self._path.read_bytes()
                except OSError:
                    continue
                if new != data:
                    data = new
                    yield new
        finally:
            if descriptor >= 0:
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = [
            loop.create_task(self._changed.wait(), name="file-changed"),
            loop.create_task(self._clock.sleep(self._interval), name="file-interval"),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _watch(self) -> int:
        """An inotify descriptor that sets the event, or -1."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except (OSError, AttributeError):
            return -1
        if descriptor < 0:
            return -1
        folders = {self._path.parent, self._path.resolve().parent}
        for folder in folders:
            libc.inotify_add_watch(descriptor, os.fsencode(folder), _MASK)

        def read() -> None:
            try:
                os.read(descriptor, 65536)
            except BlockingIOError:
                return
            self._changed.set()

        asyncio.get_running_loop().add_reader(descriptor, read)
        return descriptor
