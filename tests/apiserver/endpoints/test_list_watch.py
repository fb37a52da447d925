"""LIST and WATCH as clients see them over HTTP: pages, revisions, selectors, forms, ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
PATH = "/api/v1/namespaces/default/configmaps"
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
PARTIAL = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    settings: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(serve=True, **settings) as running:
        yield running


@pytest.fixture
def client(server: APIServer) -> LocalClient:
    return server.local_client()


@pytest.fixture
async def http(server: APIServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def make(client: LocalClient, *names: str, label: str = "") -> list[str]:
    versions = []
    for name in names:
        metadata: dict[str, Any] = {"name": name, "namespace": "default"}
        if label:
            metadata["labels"] = {"l": label}
        made = await client.create(CONFIG_MAPS, {"metadata": metadata, "data": {"x": "1"}})
        versions.append(made["metadata"]["resourceVersion"])
    return versions


async def get(http: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with http.get(url, headers=headers) as response:
        return response.status, await response.json()


def names(document: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


async def test_pages_are_of_one_revision(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, "a", "b", "c", "d", "e")
    status, first = await get(http, f"{PATH}?limit=2")
    assert status == 200 and names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    await client.delete(CONFIG_MAPS, "c", "default")
    await make(client, "d2")
    token = first["metadata"]["continue"]
    _, second = await get(http, f"{PATH}?limit=2&continue={token}")
    assert names(second) == ["c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    _, third = await get(http, f"{PATH}?continue={second['metadata']['continue']}")
    assert names(third) == ["e"] and "continue" not in third["metadata"]
    status, error = await get(http, f"{PATH}?continue={token}&resourceVersion=1")
    assert (status, error["message"]) == (
        400,
        "specifying resource version is not allowed when using continue",
    )
    status, error = await get(http, f"{PATH}?continue=rubbish")
    assert status == 400 and "continue key is not valid" in error["message"]


async def test_an_expired_page_offers_an_inconsistent_one(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    await make(client, "a", "b", "c")
    _, first = await get(http, f"{PATH}?limit=1")
    await make(client, *(f"x{i}" for i in range(150)))
    await server.storage.compact(await server.storage.current_revision())
    clock = server.clock
    assert isinstance(clock, FakeClock)
    clock.advance(3600)
    await make(client, *(f"y{i}" for i in range(150)))
    status, error = await get(http, f"{PATH}?limit=1&continue={first['metadata']['continue']}")
    assert (status, error["reason"]) == (410, "Expired")
    assert "inconsistent list" in error["message"]
    token = error["metadata"]["continue"]
    status, rest = await get(http, f"{PATH}?limit=1&continue={token}")
    assert status == 200 and names(rest) == ["b"]


async def test_revisions(client: LocalClient, http: aiohttp.ClientSession) -> None:
    old, _ = await make(client, "a", "b")
    _, exact = await get(http, f"{PATH}?resourceVersion={old}&resourceVersionMatch=Exact")
    assert names(exact) == ["a"] and exact["metadata"]["resourceVersion"] == old
    _, newer = await get(http, f"{PATH}?resourceVersion={old}&resourceVersionMatch=NotOlderThan")
    assert names(newer) == ["a", "b"]
    _, any_ = await get(http, f"{PATH}?resourceVersion=0&limit=1")
    assert names(any_) == ["a", "b"]
    status, error = await get(http, f"{PATH}?resourceVersion=x")
    assert status == 400 and 'Invalid value: "x"' in error["message"]


async def test_a_revision_of_the_future(server: APIServer, http: aiohttp.ClientSession) -> None:
    clock = server.clock
    assert isinstance(clock, FakeClock)
    asking = asyncio.get_running_loop().create_task(get(http, f"{PATH}?resourceVersion=99999"))
    while not asking.done():
        clock.advance(1)
        await asyncio.sleep(0)
    status, error = await asking
    assert (status, error["reason"]) == (504, "Timeout")
    assert error["details"]["causes"][0] == {
        "reason": "ResourceVersionTooLarge",
        "message": "Too large resource version",
    }
    assert error["details"]["retryAfterSeconds"] == 1


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("resourceVersionMatch=Exact", "forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Nearly&resourceVersion=1", 'Unsupported value: "Nearly"'),
        ("resourceVersionMatch=Exact&resourceVersion=0", 'forbidden for resourceVersion "0"'),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        ("watch=1&sendInitialEvents=true", "sendInitialEvents requires setting"),
        ("watch=1&resourceVersionMatch=NotOlderThan", "unless sendInitialEvents is provided"),
    ],
)
async def test_options_that_make_no_sense(
    http: aiohttp.ClientSession, query: str, text: str
) -> None:
    status, error = await get(http, f"{PATH}?{query}")
    assert status == 422 and text in error["message"]
    assert error["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("limit=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "limit=99999999999999999999",
            'strconv.ParseInt: parsing "99999999999999999999": value out of range',
        ),
        ("labelSelector=a%20b", "unable to parse requirement"),
        ("fieldSelector=foo", "invalid selector"),
        (
            "fieldSelector=foo=bar",
            '"foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("watch=1&timeoutSeconds=soon", 'strconv.ParseInt: parsing "soon": invalid syntax'),
    ],
)
async def test_values_that_do_not_parse(http: aiohttp.ClientSession, query: str, text: str) -> None:
    status, error = await get(http, f"{PATH}?{query}")
    assert status == 400 and text in error["message"]


async def test_selectors(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, "a", "b", label="x")
    await make(client, "c", label="y")
    _, labelled = await get(http, f"{PATH}?labelSelector=l%20in%20(x)&limit=1")
    assert names(labelled) == ["a"]
    assert labelled["metadata"]["continue"]
    assert "remainingItemCount" not in labelled["metadata"]
    _, named = await get(http, f"{PATH}?fieldSelector=metadata.name%3Db")
    assert names(named) == ["b"]
    _, other = await get(
        http, f"{PATH}?fieldSelector=metadata.name!%3Db,metadata.namespace=default"
    )
    assert names(other) == ["a", "c"]


async def test_tables(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, "a")
    _, table = await get(http, PATH, **TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["a", 1]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert "data" not in row["object"]
    _, full = await get(http, f"{PATH}/a?includeObject=Object", **TABLE)
    assert full["rows"][0]["object"]["data"] == {"x": "1"}
    _, none = await get(http, f"{PATH}?includeObject=None", **TABLE)
    assert none["rows"][0]["object"] is None
    status, error = await get(http, f"{PATH}?includeObject=Some", **TABLE)
    assert status == 400 and "must be 'Metadata', 'Object', 'None', or empty" in error["message"]


async def test_partial_metadata(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, "a")
    _, listed = await get(http, PATH, accept=PARTIAL.format("List"))
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"][0]["kind"] == "PartialObjectMetadata"
    _, one = await get(http, f"{PATH}/a", accept=PARTIAL.format(""))
    assert one["kind"] == "PartialObjectMetadata" and "data" not in one
    status, _ = await get(http, PATH, accept=PARTIAL.format(""))
    assert status == 406


async def test_long_lists_are_streamed(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, *(f"n{i:03}" for i in range(250)))
    async with http.get(PATH, headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Length" not in response.headers
        document = await response.json()
    assert names(document) == [f"n{i:03}" for i in range(250)]
    assert "kind" not in document["items"][0]


class Events:
    """Lines of an open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            line = await self.response.content.readline()
        return json.loads(line) if line else {}

    async def summary(self) -> tuple[str, str]:
        event = await self.next()
        return event["type"], event["object"]["metadata"].get("name", "")


async def test_watch_from_a_revision(client: LocalClient, http: aiohttp.ClientSession) -> None:
    (version,) = await make(client, "a")
    async with http.get(f"{PATH}?watch=1&resourceVersion={version}") as response:
        assert response.headers["Content-Type"] == "application/json"
        events = Events(response)
        await make(client, "b")
        patch: Any = {"data": {"x": "2"}}
        await client.patch(CONFIG_MAPS, "a", patch, "application/merge-patch+json", "default")
        await client.delete(CONFIG_MAPS, "a", "default")
        assert await events.summary() == ("ADDED", "b")
        changed = await events.next()
        assert (changed["type"], changed["object"]["data"]) == ("MODIFIED", {"x": "2"})
        gone = await events.next()
        assert gone["type"] == "DELETED" and gone["object"]["data"] == {"x": "2"}
        revisions = [changed["object"]["metadata"]["resourceVersion"]]
        assert int(gone["object"]["metadata"]["resourceVersion"]) > int(revisions[0])


async def test_watch_list(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, "a", "b")
    query = (
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        "&allowWatchBookmarks=true"
    )
    async with http.get(f"{PATH}?{query}") as response:
        events = Events(response)
        assert await events.summary() == ("ADDED", "a")
        assert await events.summary() == ("ADDED", "b")
        bookmark = await events.next()
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["kind"] == "ConfigMap"
        assert bookmark["object"]["metadata"]["annotations"] == {
            "k8s.io/initial-events-end": "true"
        }
        await make(client, "c")
        assert await events.summary() == ("ADDED", "c")


async def test_legacy_watches_begin_with_what_is_there(
    client: LocalClient, http: aiohttp.ClientSession
) -> None:
    await make(client, "a")
    for query in ("watch=1", "watch=1&resourceVersion=0"):
        async with http.get(f"{PATH}?{query}") as response:
            assert await Events(response).summary() == ("ADDED", "a")
    async with http.get("/api/v1/watch/namespaces/default/configmaps/a") as response:
        assert await Events(response).summary() == ("ADDED", "a")


async def test_selector_transitions(client: LocalClient, http: aiohttp.ClientSession) -> None:
    (version,) = await make(client, "a")
    url = f"{PATH}?watch=1&resourceVersion={version}&labelSelector=l=x"
    async with http.get(url) as response:
        events = Events(response)
        for label in ("x", "y"):
            patch: Any = {"metadata": {"labels": {"l": label}}}
            await client.patch(CONFIG_MAPS, "a", patch, "application/merge-patch+json", "default")
        assert await events.summary() == ("ADDED", "a")
        gone = await events.next()
        assert gone["type"] == "DELETED" and gone["object"]["metadata"]["labels"] == {"l": "x"}


async def test_watches_in_other_forms(client: LocalClient, http: aiohttp.ClientSession) -> None:
    await make(client, "a", "b")
    async with http.get(f"{PATH}?watch=1", headers=TABLE) as response:
        events = Events(response)
        first, second = await events.next(), await events.next()
        assert first["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"] and not second["object"]["columnDefinitions"]
        assert second["object"]["rows"][0]["cells"][0] == "b"
    headers = {"accept": PARTIAL.format("")}
    async with http.get(f"{PATH}?watch=1", headers=headers) as response:
        event = await Events(response).next()
        assert event["object"]["kind"] == "PartialObjectMetadata"


async def test_a_watch_ends_at_its_timeout(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    clock = server.clock
    assert isinstance(clock, FakeClock)
    await make(client, "a")
    url = f"{PATH}?watch=1&timeoutSeconds=5&allowWatchBookmarks=true"
    async with http.get(url) as response:
        events = Events(response)
        assert await events.summary() == ("ADDED", "a")
        assert (await events.next())["type"] == "BOOKMARK"
        clock.advance(5)
        rest = [event async for event in response.content]
        assert all(json.loads(line)["type"] == "BOOKMARK" for line in rest)
    status, _ = await get(http, f"{PATH}/a")
    assert status == 200


async def test_a_revision_that_is_gone(
    server: APIServer, client: LocalClient, http: aiohttp.ClientSession
) -> None:
    clock = server.clock
    assert isinstance(clock, FakeClock)
    await make(client, *(f"a{i}" for i in range(150)))
    clock.advance(3600)
    await make(client, *(f"b{i}" for i in range(300)))
    status, error = await get(http, f"{PATH}?watch=1&resourceVersion=2")
    assert (status, error["reason"]) == (410, "Expired")
    assert error["message"].startswith("too old resource version: 2 (")


async def test_shutdown_ends_watches(server: APIServer, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{PATH}?watch=1") as response:
        await server.stop(grace=1)
        assert await response.content.read() == b""


async def test_a_selector_over_many_objects_lets_others_run(
    server: APIServer, client: LocalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilothouse.apiserver.endpoints import list as list_
    from pilothouse.apiserver.endpoints.options import parse_list_options
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.request.info import parse_query, parse_request_info

    await make(client, "a", "b", "c", label="x")
    await make(client, "d", "e", label="y")
    await make(client, "f", label="x")
    monkeypatch.setattr(list_, "MANY", 3)
    monkeypatch.setattr(list_, "SLICE", 2)
    served = server.registry.lookup("", "v1", "configmaps")
    assert served is not None
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    async def found(query: str) -> list_.ListResult:
        parsed = parse_query(query)
        info = parse_request_info("GET", PATH, parsed)
        request = Request("GET", PATH, parsed, {}, info)
        return await list_.find(served, "default", parse_list_options(request, served))

    turn()
    result = await found("labelSelector=l%3Dz")
    assert list(result.entries) == [] and turns >= 3
    result = await found("labelSelector=l%3Dx&limit=2")
    assert [entry.name for entry in result.entries] == ["a", "b"] and result.continue_token
    result = await found(f"labelSelector=l%3Dx&limit=2&continue={result.continue_token}")
    assert [entry.name for entry in result.entries] == ["c", "f"] and not result.continue_token
