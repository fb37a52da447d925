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


async def open_writer(fd: int) -> asyncio.StreamWriter:
    """A writer over a pipe or terminal; owns ``fd``."""
    loop = asyncio.get_running_loop()
    file = os.fdopen(fd, "wb", buffering=0)
    protocol = asyncio.streams.FlowControlMixin(loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    return asyncio.StreamWriter(transport, protocol, None, loop)


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
        writer = await open_writer(queue.pop(0))
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
