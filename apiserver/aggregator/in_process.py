"""Calls of this process's own components to resources that an extension server serves.

Controllers (garbage collector, namespaces, quota) use in-process clients, which expect decoded
objects and watches; here their requests become HTTP and the answers become what they expect.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson

from pilothouse.apimachinery.errors import StatusError, from_status, new_service_unavailable
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.aggregator.extension import Extension
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.request.info import RequestInfo
    from pilothouse.componentbase.tasks import TaskOwner


def path_of(info: RequestInfo) -> str:
    """The path that a client over HTTP would have asked for."""
    root = f"/apis/{info.api_group}" if info.api_group else "/api"
    parts = [root, info.api_version]
    if info.namespace and info.resource != "namespaces":
        parts += ["namespaces", quote(info.namespace, safe="")]
    parts += [quote(part, safe="") for part in info.parts]
    return "/".join(parts)


async def handle(extension: Extension, request: Request, tasks: TaskOwner) -> Response:
    """:raises StatusError: what the extension server answers, or 503."""
    body = b"" if request.obj is None else orjson.dumps(request.obj)
    headers = {
        "accept": "application/json",
        "user-agent": request.headers.get("user-agent", ""),
        "content-type": request.headers.get("content-type") or "application/json",
    }
    request.headers = headers
    query = urlencode(request.query, doseq=True)
    if not extension.available:
        raise new_service_unavailable("service unavailable")
    answer = await extension.forward(request, path_of(request.info), query, body)
    if request.info.verb == "watch" and answer.status == 200 and answer.chunks is not None:
        return Response(watch=RemoteWatch(answer.chunks, tasks, extension.name))
    data = await _read(answer)
    value = _decode(answer, data)
    if answer.status >= 400:
        raise _error(answer.status, value)
    return Response(answer.status, obj=value)


async def _read(answer: Response) -> bytes:
    if answer.chunks is None:
        return answer.body
    return b"".join([chunk async for chunk in answer.chunks])


def _decode(answer: Response, data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode("utf-8", "replace").strip()


def _error(status: int, value: Any) -> StatusError:
    if isinstance(value, dict) and value.get("kind") == "Status":
        return from_status(value)
    reason = "ServiceUnavailable" if status == 503 else "Unknown"
    return StatusError(status, reason, str(value))


class RemoteWatcher:
    """Events of an HTTP watch, buffered as the cacher's watchers do it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.closed = False
        self.on_close: Callable[[], None] | None = None
        self._buffer: deque[tuple[str, Obj]] = deque()
        self._callback: Callable[[], None] | None = None

    @property
    def pending(self) -> bool:
        return bool(self._buffer) or self.closed

    def wake(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is not None and self.pending:
            self._notify()

    def _notify(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def feed(self, kind: str, obj: Obj) -> None:
        self._buffer.append((kind, obj))
        self._notify()

    def end(self, error: Exception | None = None) -> None:
        self.error = self.error or error
        self.closed = True
        self._notify()

    def take(self) -> list[tuple[str, Obj]]:
        taken = list(self._buffer)
        self._buffer.clear()
        return taken

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._notify()
        if self.on_close is not None:
            self.on_close()


class RemoteWatch:
    """An open watch: ``watcher`` and ``events`` as ``endpoints.watch.LocalWatch`` has them."""

    def __init__(self, chunks: AsyncIterator[bytes], tasks: TaskOwner, name: str) -> None:
        self.watcher = RemoteWatcher()
        reading = tasks.start(self._read(chunks), f"watch-{name}")

        def stop() -> None:
            reading.cancel()

        self.watcher.on_close = stop

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        watcher = self.watcher
        rest = b""
        try:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    self._event(orjson.loads(line))
                if watcher.closed:
                    return
        except ValueError as error:
            watcher.end(ConnectionError(f"unable to decode an event from the watch: {error}"))
        finally:
            watcher.end()
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _event(self, event: Obj) -> None:
        if event.get("type") == "ERROR":
            self.watcher.end(_error(500, event.get("object")))
        else:
            self.watcher.feed(event["type"], event["object"])

    def events(self, batch: list[tuple[str, Obj]]) -> list[tuple[str, Obj]]:
        return batch
