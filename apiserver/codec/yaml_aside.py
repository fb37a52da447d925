"""Long YAML bodies are read in a thread: libyaml's events become Python values one by one, which
takes seconds for a body of three megabytes. The event loop has its turns meanwhile.

One thread at a time, so that many such bodies take no more of the machine than one; it is there
only while there is work.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

LONG = 64 * 1024
"""Bytes from which a body is worth a thread; reading fewer takes some milliseconds."""


class ReadBody(bytes):
    """A body with what ``yaml_body.load`` gave or raised."""

    outcome: tuple[Any, str] | Exception

    def result(self) -> tuple[Any, str]:
        """:raises YAMLError:"""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class YAMLReader:
    """Of one server, for its event loop."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def read(self, body: bytes) -> bytes:
        """The body, read already."""
        if body[:1] in (b"{", b"["):
            import orjson

            try:
                orjson.loads(body)
            except ValueError:
                pass
            else:
                return body  # JSON is YAML, too
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(1, "yaml")
        self._waiting += 1
        loop = asyncio.get_running_loop()
        future = self._executor.submit(_read, body)
        future.add_done_callback(lambda _: self._leave(loop))
        return await asyncio.wrap_future(future)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread: only what has really ended counts, whoever still waits for it."""
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


def _read(body: bytes) -> ReadBody:
    from pilothouse.apiserver.codec.yaml_body import load

    read = ReadBody(body)
    try:
        read.outcome = load(body)
    except Exception as error:
        read.outcome = error
    return read
