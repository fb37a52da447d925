"""What the HTTP edge hands to a handler and what it takes back.

The API server, kubelets and health ports serve through these few types; nothing here knows
about the Kubernetes API. ``http_protocol.py`` parses and writes, a handler answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Sink(Protocol):
    """Where a pushed response body goes: one HTTP connection, flow control included."""

    @property
    def writable(self) -> bool:
        """False while the peer takes less than it is sent; wait for ``on_writable`` then."""
        ...

    def write(self, data: bytes) -> None:
        """Sends ``data`` (framed for HTTP) now, or queues it in the transport."""
        ...

    def write_framed(self, framed: bytes) -> None:
        """The same for data that many sinks get: the output of :func:`frame`, made once."""
        ...

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` once when the connection takes data again."""
        ...

    def end(self) -> None:
        """The body is complete. Nothing may be written afterwards."""
        ...


def frame(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unframe(framed: bytes) -> bytes:
    """The data of one or more chunks that :func:`frame` made."""
    found = []
    at = 0
    while at < len(framed):
        begin = framed.index(b"\r\n", at) + 2
        end = begin + int(framed[at : begin - 2], 16)
        found.append(framed[begin:end])
        at = end + 2
    return b"".join(found)


Push = Callable[[Sink], Callable[[], None]]
"""Starts a pushed body and returns what to call when the client goes away or we shut down."""


class HTTPRequest:
    """A request as it came in, its whole body read.

    ``headers``: lower-case names; repeated headers are joined with ``", "``, repeated
    ``impersonate-*`` and ``x-remote-*`` ones with a newline (their values may hold commas).
    ``peer_der`` is the client's certificate, empty when it does not verify.
    ``connection`` lives as long as the connection: a place for what was found out once.
    """

    __slots__ = (
        "body",
        "client",
        "connection",
        "disconnected",
        "headers",
        "method",
        "peer_der",
        "target",
        "tls",
        "upgrade",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        peer_der: bytes | None = None,
        tls: bool = False,
        client: str = "",
        connection: dict[str, Any] | None = None,
        upgrade: Callable[[], Awaitable[Streams]] | None = None,
        disconnected: Callable[[], bool] | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.peer_der = peer_der
        self.tls = tls
        self.client = client
        self.connection = {} if connection is None else connection
        self.upgrade = upgrade
        self.disconnected = disconnected


class HTTPResponse(Protocol):
    """What a handler returns: one of ``body``, ``chunks`` or ``push``, or ``hijacked``."""

    status: int
    body: bytes
    content_type: str
    headers: list[tuple[str, str]]
    chunks: AsyncIterator[bytes] | None
    push: Push | None
    hijacked: bool


@dataclass(slots=True)
class PlainResponse:
    """An :class:`HTTPResponse` for handlers that have no type of their own."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: AsyncIterator[bytes] | None = None
    push: Push | None = None
    gzip_above: int | None = None
    hijacked: bool = False


class HTTPHandler(Protocol):
    """Answers requests. Must not raise: an exception ends the connection."""

    def handle(self, request: HTTPRequest) -> Coroutine[Any, Any, HTTPResponse]:
        """The answer. For a GET or HEAD the coroutine's first step runs outside of a task (it
        must not use asyncio.timeout or current_task before it first waits): an answer that is
        at hand costs no task switch."""
        ...

    def body_limit(self, method: str, target: bytes) -> int:
        """How many bytes of body this request may have. Above a few megabytes a handler may have
        ``async admit(request) -> HTTPResponse | None``, too: it gets the request without its body
        and says why that is not to be read (``big_bodies.py``)."""
        ...

    def too_large(self, method: str, target: bytes) -> HTTPResponse:
        """The answer to a body over the limit; the connection is closed after it. A handler may
        have ``async refused(request, response)``: it is told of what was refused so, or by
        ``admit``."""
        ...
