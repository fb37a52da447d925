"""What travels through the handler chain: users, requests and responses.

The same :class:`Request` is made by the HTTP edge (body as bytes) and by the in-process
transport (``obj`` already decoded, ``local`` true), so both take the same path from
authorization on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.request.info import RequestInfo
    from pilothouse.componentbase.serving.interfaces import Push


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks (authentication.k8s.io UserInfo). ``groups`` is a tuple so that it hashes."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


Query = dict[str, list[str]]


@dataclass(slots=True)
class Request:
    """One API request. Header names are lower-case; ``query`` values are decoded."""

    method: str
    path: str
    query: Query
    headers: dict[str, str]
    info: RequestInfo
    user: UserInfo | None = None
    body: bytes = b""
    obj: Obj | None = None
    """In-process callers pass the decoded body here; the receiver owns it."""
    local: bool = False
    """True: answers may carry shared, decoded objects instead of bytes."""
    impersonator: UserInfo | None = None
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)
    upgrade: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] | None = (
        None
    )
    """Takes the raw connection over (nothing has been answered yet: the caller writes the 101).
    None when the client did not ask for an upgrade."""
    disconnected: Callable[[], bool] | None = None
    raw_query: str = ""
    """The query as it was sent (for proxies)."""
    audit_id: str = ""
    peer_der: bytes | None = None
    """The verified client certificate of the connection."""
    connection: Any = None
    """The HTTP edge's request, for handlers that pass it on (ASGI)."""
    audit: Any = None
    """The ``audit.event.Record`` of this request; None: it is not audited."""

    def query_value(self, name: str, default: str = "") -> str:
        values = self.query.get(name)
        return values[0] if values else default


@dataclass(slots=True)
class Response:
    """The answer: exactly one of ``body``, ``chunks`` (streamed), ``push`` (streamed by
    callback), ``obj``/``watch`` (local)."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: AsyncIterator[bytes] | None = None
    obj: Any = None
    """Local transport: the decoded object, shared and read-only."""
    watch: Any = None
    """Local transport: an open CacheWatcher (``storage/cacher``) instead of a byte stream."""
    push: Push | None = None
    gzip_above: int | None = 128 * 1024
    """More bytes than this are packed for clients that accept it; None: as they are."""
    hijacked: bool = False
    """The handler took the connection over by ``Request.upgrade`` and has finished with it."""
