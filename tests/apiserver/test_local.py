"""The in-process client: sharing, copying, watches, and what counts as activity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.kubeclient.interfaces import ListOptions

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    async with running_server() as running:
        yield running


@pytest.fixture
def client(server: APIServer) -> LocalClient:
    return server.local_client()


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_readers_share_one_object(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a"))
    first = await client.get(CONFIG_MAPS, "a", "default")
    listed = await client.list(CONFIG_MAPS, "default")
    assert first is made and listed.items[0] is made


async def test_callers_keep_their_objects(client: LocalClient) -> None:
    mine = config_map("a", x="1")
    await client.create(CONFIG_MAPS, mine)
    assert mine == config_map("a", x="1")
    await client.update(CONFIG_MAPS, mine)
    assert mine == config_map("a", x="1")


async def test_watch_gives_batches_of_shared_objects(client: LocalClient) -> None:
    start = await client.list(CONFIG_MAPS, "default")
    watch = await client.watch(
        CONFIG_MAPS, "default", ListOptions(resource_version=start.resource_version)
    )
    made = [await client.create(CONFIG_MAPS, config_map(name)) for name in "ab"]
    batches = aiter(watch)
    batch = await anext(batches)
    assert [event.type for event in batch] == ["ADDED", "ADDED"]
    assert [event.object for event in batch] == made and batch[0].object is made[0]
    await watch.close()
    assert [rest async for rest in batches] == []


async def test_watch_list_ends_with_a_bookmark(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    watch = await client.watch(CONFIG_MAPS, "default", send_initial_events=True)
    batch = await anext(aiter(watch))
    assert [event.type for event in batch] == ["ADDED", "BOOKMARK"]
    assert batch[-1].object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    await watch.close()


async def test_a_watch_from_the_past_that_is_gone(server: APIServer, client: LocalClient) -> None:
    with pytest.raises(StatusError) as raised:
        server.clock.advance(3600)  # type: ignore[attr-defined]
        for index in range(300):
            await client.create(CONFIG_MAPS, config_map(f"x{index}"))
            server.clock.advance(60)  # type: ignore[attr-defined]
        await client.watch(CONFIG_MAPS, "default", ListOptions(resource_version="1"))
    assert raised.value.code == 410


async def test_undelivered_events_are_activity(server: APIServer, client: LocalClient) -> None:
    start = await client.list(CONFIG_MAPS, "default")
    watch = await client.watch(
        CONFIG_MAPS, "default", ListOptions(resource_version=start.resource_version)
    )
    await server.activity.settle()
    await client.create(CONFIG_MAPS, config_map("a"))
    assert server.activity.busy() == ["watch"]
    batches = aiter(watch)
    await anext(batches)
    # Being worked on: the consumer has not come back.
    assert server.activity.busy() == ["watch"]
    waiting = asyncio.get_running_loop().create_task(anext(batches))
    await server.activity.settle()
    assert server.activity.busy() == []
    await client.create(CONFIG_MAPS, config_map("b"))
    assert server.activity.busy() == ["watch"]
    await waiting
    await watch.close()
    assert server.activity.busy() == []


async def test_closing_a_watch_gives_its_activity_back(
    server: APIServer, client: LocalClient
) -> None:
    watch = await client.watch(CONFIG_MAPS, "default", send_initial_events=True)
    await asyncio.sleep(0)
    assert server.activity.busy() == ["watch"]
    await watch.close()
    assert server.activity.busy() == []


async def test_a_watch_ends_with_the_server(client: LocalClient, server: APIServer) -> None:
    start = await client.list(CONFIG_MAPS, "default")
    watch = await client.watch(
        CONFIG_MAPS, "default", ListOptions(resource_version=start.resource_version)
    )
    waiting = asyncio.get_running_loop().create_task(_drain(watch))
    await server.stop(grace=0)
    assert await waiting == []


async def _drain(watch: Any) -> list[Any]:
    return [batch async for batch in watch]


async def test_other_paths(client: LocalClient) -> None:
    assert (await client.request("GET", "/version"))["gitVersion"].startswith("v1.37")
    assert await client.request("GET", "/readyz") == "ok"
    groups = await client.request("GET", "/apis")
    assert {group["name"] for group in groups["groups"]} >= {"apps", "policy"}
    with pytest.raises(StatusError) as raised:
        await client.request("GET", "/nope")
    assert raised.value.code == 404
    made = await client.request(
        "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "raw"}}
    )
    assert made["metadata"]["name"] == "raw"


async def test_field_managers(client: LocalClient) -> None:
    made = await client.with_user_agent("kubelet/v1").create(CONFIG_MAPS, config_map("a", x="1"))
    assert made["metadata"]["managedFields"][0]["manager"] == "kubelet"
    named = await client.create(CONFIG_MAPS, config_map("b", x="1"), field_manager="me")
    assert named["metadata"]["managedFields"][0]["manager"] == "me"
