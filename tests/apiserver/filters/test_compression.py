from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.filters import compression
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
PATH = "/api/v1/namespaces/default/configmaps"
LIMIT = 128 * 1024


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    settings: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(clock=RealClock(), serve=True, **settings) as running:
        client = running.local_client()
        for index in range(150):
            body = {"metadata": {"name": f"c{index}", "namespace": "default"}}
            await client.create(CONFIG_MAPS, {**body, "data": {"x": "y" * 500}})
        big = {"metadata": {"name": "zbig", "namespace": "default"}, "data": {"x": "z" * 200_000}}
        await client.create(CONFIG_MAPS, big)
        yield running


def session(server: APIServer, accept: str = "gzip") -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        server.url,
        connector=aiohttp.TCPConnector(ssl=False),
        headers={"Accept-Encoding": accept},
        auto_decompress=False,
    )


async def test_lists_and_big_objects_are_packed(server: APIServer) -> None:
    async with session(server, "deflate, gzip, br") as http:
        async with http.get(PATH) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Vary"] == "Accept-Encoding"
            packed = await response.read()
        assert len(packed) < 50_000
        assert len(json.loads(gzip.decompress(packed))["items"]) >= 151
        async with http.get(f"{PATH}/zbig") as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert json.loads(gzip.decompress(await response.read()))["data"]["x"][0] == "z"
    async with session(server, "identity") as http, http.get(PATH) as response:
        assert "Content-Encoding" not in response.headers
        assert len(json.loads(await response.read())["items"]) >= 151


async def test_small_answers_are_not(server: APIServer) -> None:
    async with session(server) as http:
        for path in (f"{PATH}/c0", f"{PATH}?limit=50", f"{PATH}?limit=110"):
            async with http.get(path) as response:
                assert "Content-Encoding" not in response.headers
                assert response.headers["Content-Length"]
                json.loads(await response.read())
        async with http.get("/openapi/v3") as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert "paths" in json.loads(gzip.decompress(await response.read()))


async def test_a_watch_with_initial_events_is_packed(server: APIServer) -> None:
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    path = f"{PATH}?{query}&allowWatchBookmarks=true"
    client = server.local_client()
    async with session(server) as http, http.get(path) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        events = Members()
        while not events.seen or events.seen[-1]["type"] != "BOOKMARK":
            events.feed(await response.content.readany())
        assert len(events.seen) >= 152
        await client.delete(CONFIG_MAPS, "c3", "default")
        while events.seen[-1]["type"] != "DELETED":
            events.feed(await response.content.readany())
        assert events.seen[-1]["object"]["metadata"]["name"] == "c3"
        assert events.ended == events.begun, "each write is a member that is complete"
    async with session(server) as http, http.get(f"{PATH}?watch=true") as response:
        assert "Content-Encoding" not in response.headers


class Members:
    """Watch events out of gzip members."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.begun = self.ended = 0
        self._text = b""
        self._unpacker: Any = None

    def feed(self, data: bytes) -> None:
        while data:
            if self._unpacker is None:
                self._unpacker = zlib.decompressobj(31)
                self.begun += 1
            self._text += self._unpacker.decompress(data)
            data = self._unpacker.unused_data
            if self._unpacker.eof:
                self._unpacker = None
                self.ended += 1
        *lines, self._text = self._text.split(b"\n")
        self.seen += [json.loads(line) for line in lines]


async def test_it_can_be_switched_off() -> None:
    settings: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(
        clock=RealClock(), serve=True, response_compression=False, **settings
    ) as server:
        async with session(server) as http, http.get("/openapi/v3") as response:
            assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("sizes", [(10, 20), (LIMIT, 1), (LIMIT + 1,), (50_000,) * 9, ()])
async def test_a_stream_is_read_until_it_is_big(sizes: tuple[int, ...]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for size in sizes:
            yield b"x" * size
            await asyncio.sleep(0)

    response = Response(chunks=chunks())
    await compression.compress(response, LIMIT)
    if sum(sizes) > LIMIT:
        assert response.chunks is not None
        packed = b"".join([chunk async for chunk in response.chunks])
        assert gzip.decompress(packed) == b"x" * sum(sizes)
        assert ("Content-Encoding", "gzip") in response.headers
    else:
        assert (response.chunks, len(response.body)) == (None, sum(sizes))
        assert not response.headers


async def test_zlib_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    assert gzip.decompress(compression.member(b"abc" * 99)) == b"abc" * 99


def test_accept_encoding() -> None:
    assert compression.accepts_gzip("gzip")
    assert compression.accepts_gzip("deflate , gzip")
    assert not compression.accepts_gzip("gzip;q=0.5")  # as upstream reads it
    assert not compression.accepts_gzip("")


def test_an_event_is_whole_before_its_stream_ends() -> None:
    # Go's reader looks for the next member before it gives what is in a last block.
    packed = compression.flushed(b"event" * 50)
    assert gzip.decompress(packed) == b"event" * 50
    before = packed[: packed.rindex(b"\x00\x00\xff\xff") + 4]
    reader = zlib.decompressobj(31)
    assert reader.decompress(before) == b"event" * 50
    assert not reader.eof
