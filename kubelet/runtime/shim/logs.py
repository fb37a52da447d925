"""What containers write: to log files in CRI's format, and to whoever is attached.

    2026-11-23T16:54:10.750006090Z stdout F a whole line
    2026-11-23T16:54:10.750006090Z stdout P the first 16 KiB of a longer one

Runs in the main loop. Streams are FIFOs (or a terminal's master) opened non-blocking.
"""

from __future__ import annotations

import errno
import os
import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from pilothouse.kubelet.runtime.shim.loop import Loop

MAX_LINE = 16 * 1024
READ_SIZE = 64 * 1024
MAX_BACKLOG = 4 << 20


def timestamp(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode() + b".%09dZ" % rest


def format_lines(stream: bytes, now: bytes, pending: bytes, data: bytes) -> tuple[bytes, bytes]:
    """(log text, what waits for the rest of its line)."""
    lines = (pending + data).split(b"\n")
    rest = lines.pop()
    whole = now + b" " + stream + b" F "
    part = now + b" " + stream + b" P "
    out: list[bytes] = []
    for line in lines:
        while len(line) > MAX_LINE:
            out += (part, line[:MAX_LINE], b"\n")
            line = line[MAX_LINE:]
        out += (whole, line, b"\n")
    while len(rest) >= MAX_LINE:
        out += (part, rest[:MAX_LINE], b"\n")
        rest = rest[MAX_LINE:]
    return b"".join(out), rest


def last_line(stream: bytes, now: bytes, pending: bytes) -> bytes:
    """What came without an end of line is a part for ever: readers add no newline."""
    return b"%b %b P %b\n" % (now, stream, pending) if pending else b""


class LogFile:
    """Both streams of one container append to it; ``reopen`` after a rotation."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self.reopen()

    def reopen(self) -> None:
        self.close()
        if self._path:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o640)

    def write(self, data: bytes) -> None:
        while data and self._fd >= 0:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:
                return  # a full disk loses log lines, not containers

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Listener:
    """One attached client of one stream; a slow one is cut off at MAX_BACKLOG."""

    def __init__(self, loop: Loop, connection: socket.socket, pump: Pump) -> None:
        self._loop = loop
        self._socket = connection
        self._pump = pump
        self._backlog = bytearray()
        self._ending = False
        connection.setblocking(False)
        # The client never writes here: readable means that it has gone.
        loop.watch(connection.fileno(), selectors.EVENT_READ, self._ready)

    def send(self, data: bytes) -> None:
        self._backlog += data
        if len(self._backlog) > MAX_BACKLOG:
            self.close()
        else:
            self._flush()

    def end(self) -> None:
        """Closes when everything is sent."""
        self._ending = True
        self._flush()

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_READ:
            try:
                gone = not self._socket.recv(1024)
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                self.close()
                return
        self._flush()

    def _flush(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            while self._backlog:
                del self._backlog[: self._socket.send(self._backlog)]
        except BlockingIOError:
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._loop.watch(self._socket.fileno(), both, self._ready)
            return
        except OSError:
            self.close()
            return
        if self._ending:
            self.close()
        else:
            self._loop.watch(self._socket.fileno(), selectors.EVENT_READ, self._ready)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
        if self in self._pump.listeners:
            self._pump.listeners.remove(self)


class Pump:
    """One stream of one container."""

    def __init__(self, loop: Loop, fd: int, stream: str, log: LogFile) -> None:
        self._loop = loop
        self._fd = fd
        self._stream = stream.encode()
        self._log = log
        self._pending = b""
        self.listeners: list[Listener] = []
        os.set_blocking(fd, False)
        loop.watch(fd, selectors.EVENT_READ, lambda _: self._readable())

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def attach(self, connection: socket.socket) -> None:
        listener = Listener(self._loop, connection, self)
        if self.open:
            self.listeners.append(listener)
        else:
            listener.end()

    def _readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """One read; false when there is nothing more now or ever."""
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the terminal's other side is closed
                raise
            data = b""
        if not data:
            self.close()
            return False
        text, self._pending = format_lines(
            self._stream, timestamp(time.time_ns()), self._pending, data
        )
        self._log.write(text)
        for listener in list(self.listeners):
            listener.send(data)
        return True

    def drain(self) -> None:
        """Everything that is there: before a container's end is told."""
        while self._read():
            pass

    def close(self) -> None:
        if self._fd < 0:
            return
        self._loop.unwatch(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._pending:
            text = last_line(self._stream, timestamp(time.time_ns()), self._pending)
            self._log.write(text)
            self._pending = b""
        for listener in list(self.listeners):
            listener.end()
