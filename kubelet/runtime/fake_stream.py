"""The ExecStream of fake containers: output that is there at once, input that goes nowhere."""

from __future__ import annotations

import asyncio


class _Discard(asyncio.Transport):
    """A write transport that drops everything."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._closed = True

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def abort(self) -> None:
        self._closed = True


class FakeStream:
    """Streams that were not asked for are None. ``finish`` ends it."""

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        loop = asyncio.get_running_loop()
        self.stdout = asyncio.StreamReader() if stdout else None
        self.stderr = asyncio.StreamReader() if stderr else None
        self.stdin: asyncio.StreamWriter | None = None
        if stdin:
            protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
            self.stdin = asyncio.StreamWriter(_Discard(), protocol, None, loop)
        self.size: tuple[int, int] | None = None
        self._code: asyncio.Future[int] = loop.create_future()

    def finish(self, output: bytes, code: int) -> None:
        """The stream ends with ``output`` and ``code``; later calls do nothing."""
        if self._code.done():
            return
        if self.stdout is not None:
            self.stdout.feed_data(output)
            self.stdout.feed_eof()
        if self.stderr is not None:
            self.stderr.feed_eof()
        self._code.set_result(code)

    async def resize(self, width: int, height: int) -> None:
        self.size = (width, height)

    async def close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    async def kill(self) -> None:
        self.finish(b"", 137)
        await self.close_stdin()
