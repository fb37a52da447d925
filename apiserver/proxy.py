"""A small streaming HTTP/1.1 client for proxied requests (pods, services, nodes, kubelets).

Bodies pass through as they come, upgraded connections as bytes in both ways. One connection a
request: these are rare, and none may hold on to a backend that has gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_internal_error, new_service_unavailable
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence

MAX_HEAD = 1 << 20
_CHUNK = 64 * 1024
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


async def connect(
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    timeout: float,
    server_hostname: str | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """``server_hostname``: the name that the certificate must have, unless it is ``host``.

    :raises OSError: it can't be reached, or not in time."""
    # The first step of a GET runs outside of any task, where there can be no timeout.
    await asyncio.sleep(0)
    async with asyncio.timeout(timeout):
        if tls is None:
            return await asyncio.open_connection(host, port)
        return await asyncio.open_connection(
            host, port, ssl=tls, server_hostname=server_hostname or host
        )


def forwarded(headers: dict[str, str], *, upgrade: bool = False) -> dict[str, str]:
    """Headers to send on: without credentials, host, length and hop-by-hop ones."""
    kept = {
        name: value
        for name, value in headers.items()
        if name not in ("host", "content-length", "authorization", "expect")
        and (upgrade or name not in _HOP_BY_HOP)
        and not name.startswith(("impersonate-", "x-remote-"))
    }
    return kept


def request_head(
    method: str,
    target: str,
    host: str,
    headers: dict[str, str],
    length: int,
    extra: Sequence[tuple[str, str]] = (),
) -> bytes:
    """``extra``: our own headers, which ``forwarded`` would not let a client send."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in forwarded(headers).items()]
    lines += [f"{name}: {value}" for name, value in extra]
    if length or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def upgrade_head(
    method: str,
    target: str,
    host: str,
    headers: dict[str, str],
    extra: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The head of an upgrade request, its Connection and Upgrade headers as the client sent."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in extra]
    for name, value in forwarded(headers, upgrade=True).items():
        if name not in ("transfer-encoding", "keep-alive"):
            lines.append(f"{name}: {value}")
    if method == "POST":
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def http_request(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: str,
    host: str,
    headers: dict[str, str],
    body: bytes,
    extra: Sequence[tuple[str, str]] = (),
) -> Response:
    """Sends one request on a fresh connection; the answer's body is streamed.

    :raises StatusError: 503, the backend broke off before it had answered.
    """
    try:
        writer.write(request_head(method, target, host, headers, len(body), extra) + body)
        status, answered = await _read_head(reader)
        while 100 <= status < 200:
            status, answered = await _read_head(reader)
    except (OSError, EOFError, ValueError) as error:
        writer.close()
        raise new_service_unavailable(
            f"error trying to reach service: {error or type(error).__name__}"
        ) from error
    response = Response(status, content_type="", gzip_above=None)
    for name, value in answered:
        if name == "content-type":
            response.content_type = value
        elif name not in _HOP_BY_HOP and name != "content-length":
            response.headers.append((name, value))
    lengths = dict(answered)
    if method == "HEAD" or status in (204, 304):
        writer.close()
        return response
    response.chunks = _body(reader, writer, lengths)
    return response


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[str, str]]]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = lines[0].split(" ", 2)
    # A bare line end passed on would let a pod make up answers on its reader's connection.
    stray = any(char in line for line in lines for char in "\r\n\0")
    if stray or len(parts) < 2 or not parts[0].startswith("HTTP/"):
        raise ValueError("malformed HTTP response")
    headers = []
    for line in lines[1:]:
        name, found, value = line.partition(":")
        if found:
            headers.append((name.strip().lower(), value.strip()))
    return int(parts[1]), headers


async def _body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
) -> AsyncIterator[bytes]:
    try:
        if "chunked" in headers.get("transfer-encoding", ""):
            while True:
                size = int((await reader.readline()).split(b";")[0] or b"0", 16)
                if not size:
                    return
                if size < 0:
                    raise ValueError("malformed chunked encoding")
                left = size
                while left:
                    data = await reader.read(min(left, _CHUNK))
                    if not data:
                        return
                    left -= len(data)
                    yield data
                await reader.readexactly(2)
        left = int(headers.get("content-length") or -1)
        while left:
            data = await reader.read(_CHUNK if left < 0 else min(left, _CHUNK))
            if not data:
                return
            if left > 0:
                left -= len(data)
            yield data
    except (OSError, EOFError, ValueError):
        return
    finally:
        writer.close()


async def pass_through(
    client_reader: asyncio.StreamReader,
    client_writer: asyncio.StreamWriter,
    backend_reader: asyncio.StreamReader,
    backend_writer: asyncio.StreamWriter,
) -> None:
    """Copies bytes both ways until either side has ended; closes both connections."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass

    try:
        async with asyncio.TaskGroup() as group:
            ways = (
                group.create_task(copy(client_reader, backend_writer)),
                group.create_task(copy(backend_reader, client_writer)),
            )
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
    finally:
        backend_writer.close()
        client_writer.close()


def unreachable(error: BaseException) -> Exception:
    return new_internal_error(f"error dialing backend: {error}")
