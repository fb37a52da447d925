"""Changes in directories as events: inotify, one descriptor for all watchers of a kubelet."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct

IN_MODIFY = 0x002
IN_ATTRIB = 0x004
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_IGNORED = 0x8000
_MASK = IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_HEADER = struct.Struct("iIII")


class DirectoryWatches:
    """``watch`` a directory, ``unwatch`` it with the same event. Opened on first use."""

    def __init__(self) -> None:
        self._fd = -1
        self._libc: ctypes.CDLL | None = None
        self._watchers: dict[int, set[asyncio.Event]] = {}
        self._numbers: dict[asyncio.Event, int] = {}

    def watch(self, directory: str) -> asyncio.Event:
        """An event that is set whenever something in the directory has changed.

        :raises OSError: it cannot be watched.
        """
        number = self._call("inotify_add_watch", self._open(), os.fsencode(directory), _MASK)
        event = asyncio.Event()
        self._watchers.setdefault(number, set()).add(event)
        self._numbers[event] = number
        return event

    def unwatch(self, event: asyncio.Event) -> None:
        number = self._numbers.pop(event, None)
        if number is None:
            return
        watchers = self._watchers[number]
        watchers.discard(event)
        if watchers:
            return
        del self._watchers[number]
        try:
            self._call("inotify_rm_watch", self._fd, number)
        except OSError:
            pass  # the directory is gone, and the watch with it
        if not self._watchers:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        if self._fd < 0:
            self._fd = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
            asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return self._fd

    def _call(self, name: str, *args: int | bytes) -> int:
        if self._libc is None:
            self._libc = ctypes.CDLL(None, use_errno=True)
        result = int(getattr(self._libc, name)(*args))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")
        return result

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 64 * 1024)
        except BlockingIOError:
            return
        position = 0
        while position + _HEADER.size <= len(data):
            number, _, _, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size + length
            # Number -1: the queue ran over, anything may have happened.
            concerned = [number] if number >= 0 else list(self._watchers)
            for watched in concerned:
                for event in self._watchers.get(watched, ()):
                    event.set()
