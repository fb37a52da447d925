"""The standard streams of containers and exec'd processes.

A container's stdout and stderr are FIFOs in its directory that it holds open for reading too:
when the shim dies, the container doesn't get SIGPIPE, and the next shim reads on. A terminal's
master arrives over a console socket from crun.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import struct
import termios
from typing import TYPE_CHECKING

from pilothouse.kubelet.runtime.shim.protocol import short_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pilothouse.kubelet.runtime.shim.loop import Loop

CONSOLE_TIMEOUT = 10.0
STREAMS = ("stdout", "stderr")


def make_fifos(directory: str, *, stdin: bool) -> None:
    for name in (*STREAMS, *(("stdin",) if stdin else ())):
        path = f"{directory}/{name}"
        if not os.path.exists(path):
            os.mkfifo(path, 0o600)


def open_reader(directory: str, stream: str) -> int:
    """The shim's end of an output stream."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(f"{directory}/{stream}", flags)


def open_container_ends(directory: str, *, stdin: bool) -> tuple[tuple[int, int, int], int]:
    """((stdin, stdout, stderr) for the container, the shim's end of stdin or -1)."""
    outputs = [os.open(f"{directory}/{s}", os.O_RDWR | os.O_CLOEXEC) for s in STREAMS]
    if not stdin:
        return (-1, outputs[0], outputs[1]), -1
    path = f"{directory}/stdin"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(reader, True)
    return (reader, outputs[0], outputs[1]), writer


def close_all(fds: tuple[int, ...]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def console(path: str) -> Iterator[Callable[[], int]]:
    """A console socket at ``path``; inside the block the function gives the terminal's master."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        with short_path(path) as short:
            listener.bind(short)
        listener.listen(1)
        listener.settimeout(CONSOLE_TIMEOUT)

        def receive() -> int:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(CONSOLE_TIMEOUT)
                fds = socket.recv_fds(connection, 4096, 1)[1]
            if not fds:
                raise OSError("crun sent no terminal")
            os.set_inheritable(fds[0], False)
            return fds[0]

        try:
            yield receive
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def resize(terminal: int, width: int, height: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


class StdinFeed:
    """Moves bytes from an attached client to a container's stdin; waits when that is full."""

    def __init__(
        self, loop: Loop, source: socket.socket, target: int, on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._source = source
        # A descriptor of its own: another client's end must not close it under us.
        self._target = os.dup(target)
        self._pending = b""
        self._on_end = on_end
        source.setblocking(False)
        os.set_blocking(self._target, False)
        loop.watch(source.fileno(), selectors.EVENT_READ, lambda _: self._read())

    def _read(self) -> None:
        try:
            data = self._source.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._pending = data
        self._loop.unwatch(self._source.fileno())
        self._write()

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(self._target, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._pending:
            self._loop.watch(self._target, selectors.EVENT_WRITE, lambda _: self._write())
        else:
            self._loop.unwatch(self._target)
            self._loop.watch(self._source.fileno(), selectors.EVENT_READ, lambda _: self._read())

    def close(self) -> None:
        if self._target < 0:
            return
        self._loop.unwatch(self._target)
        self._loop.unwatch(self._source.fileno())
        os.close(self._target)
        self._target = -1
        self._source.close()
        self._on_end()


def parse_signal(text: str) -> int:
    """``SIGINT``, ``INT``, ``2``, ``SIGRTMIN+3``; TERM when it says nothing we know."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isdigit():
        return int(name)
    base, plus, offset = name.partition("+")
    number = getattr(signal, f"SIG{base}", None)
    if number is None:
        return signal.SIGTERM
    return int(number) + (int(offset) if plus and offset.isdigit() else 0)
