"""asyncio ends of descriptors: the ExecStream of real processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Awaitable, Callable

STREAM_LIMIT = 1 << 18


class EndedReader(asyncio.StreamReader):
    """A reader that also tells when its end has come: ``ended``."""

    def __init__(self) -> None:
        super().__init__(limit=STREAM_LIMIT)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed_eof(self) -> None:
        super().feed_eof()
        self._finish()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _ReadProtocol(asyncio.StreamReaderProtocol):
    def connection_lost(self, exc: Exception | None) -> None:
        # A terminal whose other side is closed says EIO: that is its end.
        if isinstance(exc, OSError) and exc.errno == errno.EIO:
            exc = None
        super().connection_lost(exc)


async def open_reader(fd: int) -> tuple[EndedReader, asyncio.BaseTransport]:
    """A reader over a pipe or terminal; owns ``fd``."""
    reader = EndedReader()
    file = os.fdopen(fd, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: _ReadProtocol(reader), file)
    return reader, transport


class _WriteTransport(asyncio.Transport):
    """Writes to a pipe or terminal.

    The loops' own transports also read from what they write to, to notice its end; from a
    terminal they would take its output away.
    """

    def __init__(self, fd: int, protocol: asyncio.streams.FlowControlMixin) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._protocol = protocol
        self._buffer = bytearray()
        self._closing = False
        os.set_blocking(fd, False)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._fd < 0:
            return
        waiting = bool(self._buffer)
        self._buffer += data
        if not waiting:
            self._flush()
        if len(self._buffer) > STREAM_LIMIT:
            self._protocol.pause_writing()

    def _flush(self) -> None:
        try:
            while self._buffer:
                del self._buffer[: os.write(self._fd, self._buffer)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._flush)
            return
        except OSError as error:  # the reader has gone
            self._buffer.clear()
            self._finish(error)
            return
        self._loop.remove_writer(self._fd)
        self._protocol.resume_writing()
        if self._closing:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._closing = True
            self._protocol.connection_lost(error)

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        """After what is still to be written."""
        self._closing = True
        if not self._buffer:
            self._finish(None)

    def abort(self) -> None:
        self._buffer.clear()
        self._finish(None)


class _WriteProtocol(asyncio.streams.FlowControlMixin):
    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.get_running_loop().create_future()
        self._paused = False

    def pause_writing(self) -> None:
        if not self._paused:
            super().pause_writing()

    def resume_writing(self) -> None:
        if self._paused:
            super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._closed.done():
            self._closed.set_result(None)

    def _get_close_waiter(self, stream: object) -> asyncio.Future[None]:
        return self._closed


def open_writer(fd: int) -> asyncio.StreamWriter:
    """A writer over a pipe or terminal; owns ``fd``."""
    protocol = _WriteProtocol()
    transport = _WriteTransport(fd, protocol)
    return asyncio.StreamWriter(transport, protocol, None, asyncio.get_running_loop())


async def open_socket(fd: int) -> tuple[EndedReader, asyncio.StreamWriter]:
    """Both directions of a connected socket; owns ``fd``."""
    connection = socket.socket(fileno=fd)
    connection.setblocking(False)
    reader = EndedReader()
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, sock=connection)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class ProcessStream:
    """ExecStream over transports that the maker has opened."""

    def __init__(
        self,
        *,
        stdin: asyncio.StreamWriter | None,
        stdout: EndedReader | None,
        stderr: EndedReader | None,
        transports: list[asyncio.BaseTransport],
        exited: Callable[[], Awaitable[int]],
        kill: Callable[[], Awaitable[None]],
        resize: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self.stdin = stdin
        self.stdout: asyncio.StreamReader | None = stdout
        self.stderr: asyncio.StreamReader | None = stderr
        self._transports = transports
        self._exited = exited
        self._kill = kill
        self._resize = resize

    async def resize(self, width: int, height: int) -> None:
        await self._resize(width, height)

    async def close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()

    async def wait(self) -> int:
        return await self._exited()

    async def kill(self) -> None:
        await self._kill()
        await self.close_stdin()
        for transport in self._transports:
            transport.close()


async def over_pipes(
    fds: list[int],
    *,
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    exited: Callable[[], Awaitable[int]],
    kill: Callable[[], Awaitable[None]],
) -> ProcessStream:
    """``fds``: the asked streams in order stdin, stdout, stderr; with ``tty`` the terminal."""
    transports: list[asyncio.BaseTransport] = []
    writer = None
    readers: list[EndedReader | None] = [None, None]
    terminal = -1
    if tty:
        terminal = fds[0]
        fds = [*([os.dup(terminal)] if stdin else []), os.dup(terminal)]
        stdout, stderr = True, False
    queue = list(fds)
    if stdin:
        writer = open_writer(queue.pop(0))
    for number, wanted in enumerate((stdout, stderr)):
        if wanted:
            readers[number], transport = await open_reader(queue.pop(0))
            transports.append(transport)

    async def resize(width: int, height: int) -> None:
        if tty:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def end() -> None:
        nonlocal terminal
        await kill()
        if terminal >= 0:
            os.close(terminal)
            terminal = -1

    return ProcessStream(
        stdin=writer,
        stdout=readers[0],
        stderr=readers[1],
        transports=transports,
        exited=exited,
        kill=end,
        resize=resize,
    )
