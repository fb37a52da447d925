"""A container's log file, read in bounded steps; a rotation under the reader is survived.

Blocking: ``logs.py`` calls it in threads.
"""

from __future__ import annotations

import os
import threading

from pilothouse.kubelet.server.log_format import LogFilter, LogOptions

CHUNK = 256 * 1024
MAX_LINE = 1 << 20


class LogFile:
    """:raises OSError: it cannot be opened."""

    def __init__(self, path: str, options: LogOptions) -> None:
        self._path = path
        self._filter = LogFilter(options)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._rest = b""
        self._lock = threading.Lock()
        """A reader that is cancelled closes while its last step may still run in a thread."""
        if options.tail_lines is not None:
            os.lseek(self._fd, _tail_start(self._fd, options.tail_lines), os.SEEK_SET)

    @property
    def done(self) -> bool:
        """The reader has all that it wanted."""
        return self._filter.done

    def step(self) -> tuple[bytes, bool]:
        """(output, whether there may be more right now) of the next chunk of the file."""
        with self._lock:
            return self._step() if self._fd >= 0 else (b"", False)

    def _step(self) -> tuple[bytes, bool]:
        data = os.read(self._fd, CHUNK)
        if not data:
            return b"", self._follow_rotation()
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            self._rest = b""  # no CRI log line: don't keep it
        output = b"".join([self._filter.take(line + b"\n") for line in lines])
        return output, not self.done

    def _follow_rotation(self) -> bool:
        """At the end of the file: has another taken its place, or was it cut?"""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        mine = os.fstat(self._fd)
        if (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev):
            try:
                fresh = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return False
            # What was written to the old one just before it was replaced comes first.
            data = os.read(self._fd, CHUNK)
            if data:
                os.close(fresh)
                os.lseek(self._fd, -len(data), os.SEEK_CUR)
                return True
            os.close(self._fd)
            self._fd = fresh
            self._rest = b""
            return True
        if mine.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._rest = b""
            return True
        return False

    def finish(self) -> bytes:
        """A last line without its end."""
        rest, self._rest = self._rest, b""
        return self._filter.take(rest) if rest else b""

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __del__(self) -> None:
        # An async generator that is dropped before its first step runs no ``finally``.
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)


def _tail_start(fd: int, lines: int) -> int:
    """Where the last ``lines`` lines begin. Lines of the file: a partial one is one too."""
    end = position = os.fstat(fd).st_size
    if lines == 0:
        return end
    wanted = lines + 1  # the newline before the first of them
    if end and os.pread(fd, 1, end - 1) != b"\n":
        wanted = lines
    while position:
        start = max(position - CHUNK, 0)
        block = os.pread(fd, position - start, start)
        count = block.count(b"\n")
        if count >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        wanted -= count
        position = start
    return 0
