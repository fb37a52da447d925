"""The server on a real etcd, where its caches lag behind: retries, races, consistent reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.storage.etcd3.testing import EtcdCluster, find_etcd
from pilothouse.apiserver.testing import running_server
from pilothouse.kubeclient.interfaces import ListOptions

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
MERGE: Any = "application/merge-patch+json"

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    binary = find_etcd()
    if binary is None:
        pytest.skip("no etcd binary here")
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), binary)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def client(etcd: EtcdCluster) -> AsyncIterator[LocalClient]:
    settings: dict[str, Any] = {"storage": "etcd", "etcd_servers": etcd.config().servers}
    async with running_server(clock=RealClock(), **settings) as server:
        made = server.local_client()
        yield made
        await made.delete_collection(CONFIG_MAPS, "default")


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_reads_see_what_was_written(client: LocalClient) -> None:
    for index in range(20):
        made = await client.create(CONFIG_MAPS, config_map(f"r{index}"))
        assert await client.get(CONFIG_MAPS, f"r{index}", "default") == made
    listed = await client.list(CONFIG_MAPS, "default", ListOptions(limit=15))
    rest = await client.list(
        CONFIG_MAPS, "default", ListOptions(continue_token=listed.continue_token)
    )
    names = {item["metadata"]["name"] for item in [*listed.items, *rest.items]}
    assert {f"r{index}" for index in range(20)} <= names


async def test_racing_patches_all_take_effect(client: LocalClient) -> None:
    await client.create(CONFIG_MAPS, config_map("race"))
    await asyncio.gather(
        *(
            client.patch(CONFIG_MAPS, "race", {"data": {f"k{i}": "v"}}, MERGE, "default")
            for i in range(20)
        )
    )
    data = (await client.get(CONFIG_MAPS, "race", "default"))["data"]
    assert len(data) == 20


async def test_conflicts_and_no_ops(client: LocalClient) -> None:
    made = await client.create(CONFIG_MAPS, config_map("c", x="1"))
    changed = await client.update(CONFIG_MAPS, {**made, "data": {"x": "2"}})
    with pytest.raises(StatusError) as raised:
        await client.update(CONFIG_MAPS, {**made, "data": {"x": "3"}})
    assert raised.value.reason == "Conflict"
    again = await client.update(CONFIG_MAPS, config_map("c", x="2"))
    assert again["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    # Straight after a write the cache may still hold the old state.
    await client.patch(CONFIG_MAPS, "c", {"data": {"x": "4"}}, MERGE, "default")
    back = await client.update(CONFIG_MAPS, config_map("c", x="2"))
    assert back["data"] == {"x": "2"}


async def test_delete_and_create_again(client: LocalClient) -> None:
    for _ in range(5):
        made = await client.create(CONFIG_MAPS, config_map("again"))
        assert made["metadata"]["uid"]
        await client.delete(CONFIG_MAPS, "again", "default")
        with pytest.raises(StatusError) as raised:
            await client.get(CONFIG_MAPS, "again", "default")
        assert raised.value.code == 404
    with pytest.raises(StatusError) as raised:
        await client.patch(CONFIG_MAPS, "again", {}, MERGE, "default")
    assert raised.value.code == 404


async def test_watches_see_every_change_in_order(client: LocalClient) -> None:
    start = await client.list(CONFIG_MAPS, "default")
    watch = await client.watch(
        CONFIG_MAPS, "default", ListOptions(resource_version=start.resource_version)
    )
    await client.create(CONFIG_MAPS, config_map("w", x="0"))
    for value in range(1, 5):
        await client.patch(CONFIG_MAPS, "w", {"data": {"x": str(value)}}, MERGE, "default")
    await client.delete(CONFIG_MAPS, "w", "default")
    seen: list[tuple[str, str]] = []
    async with asyncio.timeout(10):
        async for batch in watch:
            seen += [(e.type, e.object["data"]["x"]) for e in batch if e.type != "BOOKMARK"]
            if seen[-1][0] == "DELETED":
                break
    await watch.close()
    assert seen == [("ADDED", "0"), *(("MODIFIED", str(v)) for v in range(1, 5)), ("DELETED", "4")]


async def test_racing_applies_create_once(client: LocalClient) -> None:
    kind: Any = "application/apply-patch+yaml"

    async def apply(manager: str) -> None:
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("s", **{manager: "x"})}
        await client.patch(CONFIG_MAPS, "s", wanted, kind, "default", field_manager=manager)

    await asyncio.gather(*(apply(f"m{i}") for i in range(8)))
    made = await client.get(CONFIG_MAPS, "s", "default")
    assert sorted(made["data"]) == [f"m{i}" for i in range(8)]
    assert len(made["metadata"]["managedFields"]) == 8
