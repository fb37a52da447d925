"""Runs an ASGI application (FastAPI) behind :class:`HTTPServer`.

Only for paths off the hot path: docs, console, forms. The request's body is already read and
the response is streamed as the application sends it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pilothouse.componentbase.serving.interfaces import PlainResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pilothouse.componentbase.serving.interfaces import HTTPRequest
    from pilothouse.componentbase.tasks import TaskOwner

    ASGIApp = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class ASGIBridge:
    """``await bridge(request)`` gives the application's answer."""

    def __init__(self, app: ASGIApp, tasks: TaskOwner) -> None:
        self.app = app
        self._tasks = tasks

    async def __call__(self, request: HTTPRequest) -> PlainResponse:
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=8)
        bodies = [request.body]

        async def receive() -> dict[str, Any]:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await asyncio.get_running_loop().create_future()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await self.app(_scope(request), receive, messages.put)
            finally:
                await messages.put({"type": "end"})

        task = self._tasks.start(run(), "asgi")
        start = await messages.get()
        if start["type"] != "http.response.start":
            return PlainResponse(500, b"Internal Server Error")
        response = PlainResponse(start["status"], content_type="")
        for name, value in start.get("headers", ()):
            key = name.decode("latin-1").lower()
            if key == "content-type":
                response.content_type = value.decode("latin-1")
            elif key != "content-length":
                response.headers.append((key, value.decode("latin-1")))
        response.chunks = _body(messages, task)
        return response


async def _body(
    messages: asyncio.Queue[dict[str, Any]], task: asyncio.Task[None]
) -> AsyncIterator[bytes]:
    try:
        while True:
            message = await messages.get()
            if message["type"] == "end":
                return
            yield message.get("body", b"")
            if not message.get("more_body"):
                return
    finally:
        if not task.done() and messages.empty():
            task.cancel()


def _scope(request: HTTPRequest) -> dict[str, Any]:
    raw, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https" if request.tls else "http",
        "path": unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in request.headers.items()
        ],
        "client": (request.client, 0),
        "server": None,
    }
