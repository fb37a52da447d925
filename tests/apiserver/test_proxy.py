"""Answers of backends that are passed on: a pod says what it likes, but only in one answer."""

from __future__ import annotations

import asyncio

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.proxy import connect, http_request
from pilothouse.apiserver.request.context import Response

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


async def answered(answer: bytes) -> tuple[Response, bytes]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await connect("127.0.0.1", port, None, 5)
        response = await http_request(reader, writer, "GET", "/", "host", {}, b"")
        assert response.chunks is not None
        return response, b"".join([chunk async for chunk in response.chunks])


async def test_an_answer_passes() -> None:
    response, body = await answered(
        OK + b"X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    assert (response.status, body) == (200, b"abc")
    assert ("x-a", "b") in response.headers


@pytest.mark.parametrize("stray", [b"\n", b"\r", b"\0", b"\nContent-Length: 0\n\nHTTP/1.1 200 OK"])
async def test_no_second_answer_hides_in_a_header(stray: bytes) -> None:
    with pytest.raises(StatusError, match="malformed HTTP response") as caught:
        await answered(OK + b"X-A: b" + stray + b"c\r\nContent-Length: 2\r\n\r\nhi")
    assert caught.value.code == 503


async def test_a_chunk_has_no_negative_size() -> None:
    # -1 would be all that comes, in one piece.
    _, body = await answered(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc")
    assert body == b""
