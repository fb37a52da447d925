"""One HTTP/1.1 connection to a webhook: a POST at a time, kept open in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apiserver.trace_context import trace_headers

if TYPE_CHECKING:
    import ssl

_LIMIT = 1 << 20
"""Of a response's head and of a chunk's first line."""


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str


class Closed(Exception):
    """The backend had closed the connection before it answered anything."""


class Connection:
    """Made by :func:`open_connection`; not for two requests at the same time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reusable = True
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        return self.reusable and not self._reader.at_eof() and not self._writer.is_closing()

    async def post(self, target: str, authority: str, agent: str, body: bytes) -> Answer:
        """:raises Closed: nothing came back. :raises OSError, ValueError: it broke in between."""
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\n"
            "Accept: application/json, */*\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
        )
        for name, value in trace_headers().items():
            head += f"{name}: {value}\r\n"
        head += "\r\n"
        reusable, self.reusable = self.reusable, False
        try:
            self._writer.write(head.encode("latin-1", "replace") + body)
            status, headers = await self._head()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                raise ValueError("unexpected EOF") from error
            raise Closed from error
        try:
            while 100 <= status < 200:
                status, headers = await self._head()
            content = await self._body(status, headers)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise ValueError("unexpected EOF") from error
        ended = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "")
        ended = ended or status in (204, 304)
        self.reusable = reusable and ended and headers.get("connection", "").lower() != "close"
        return Answer(status, content, headers.get("content-type", ""))

    async def _head(self) -> tuple[int, dict[str, str]]:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise ValueError("server response headers exceeded 1048576 bytes") from error
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise ValueError(f'malformed HTTP response "{lines[0]}"')
        headers = {}
        for line in lines[1:]:
            name, found, value = line.partition(":")
            if found:
                headers[name.strip().lower()] = value.strip()
        if parts[0] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return int(parts[1]), headers

    async def _body(self, status: int, headers: dict[str, str]) -> bytes:
        reader = self._reader
        if status in (204, 304):
            return b""
        if "chunked" in headers.get("transfer-encoding", ""):
            parts: list[bytes] = []
            while True:
                line = await reader.readuntil(b"\n")
                size = int(line.split(b";")[0].strip() or b"x", 16)
                if not size:
                    while (await reader.readuntil(b"\n")).strip():
                        pass
                    return b"".join(parts)
                parts.append(await reader.readexactly(size))
                await reader.readexactly(2)
        length = headers.get("content-length")
        return await (reader.readexactly(int(length)) if length else reader.read())

    def close(self) -> None:
        self.reusable = False
        self._writer.close()


async def open_connection(
    host: str, port: int, context: ssl.SSLContext, server_name: str
) -> Connection:
    """:raises OSError: it can't be reached or its certificate is none of the bundle's."""
    reader, writer = await asyncio.open_connection(
        host, port, ssl=context, server_hostname=server_name, limit=_LIMIT
    )
    return Connection(reader, writer)
