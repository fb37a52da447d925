"""What componentstatuses say of components of the same process, of others, and of the store."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apiserver.registry.subresources.component_status import probe
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.certs import ClusterPKI

PATH = "/api/v1/componentstatuses"
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    settings: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(serve=True, **settings) as running:
        checks = {"scheduler": lambda: None, "controller-manager": lambda: "a task ended"}
        running.server.services["components"] = checks
        yield running


async def get(server: APIServer, path: str, **headers: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.get(path, headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_list(server: APIServer) -> None:
    status, found = await get(server, PATH)
    assert (status, found["kind"], found["metadata"]) == (200, "ComponentStatusList", {})
    said = {each["metadata"]["name"]: each["conditions"] for each in found["items"]}
    assert said == {
        "controller-manager": [{"type": "Healthy", "status": "False", "message": "a task ended"}],
        "etcd-0": [{"type": "Healthy", "status": "True", "message": "ok"}],
        "scheduler": [{"type": "Healthy", "status": "True", "message": "ok"}],
    }
    _, some = await get(server, f"{PATH}?fieldSelector=metadata.name%3Dscheduler")
    assert [each["metadata"]["name"] for each in some["items"]] == ["scheduler"]
    assert (await get(server, f"{PATH}?labelSelector=a%3Db"))[1]["items"] == []


async def test_one(server: APIServer) -> None:
    status, found = await get(server, f"{PATH}/etcd-0")
    assert (status, found["kind"], found["metadata"]) == (
        200,
        "ComponentStatus",
        {"name": "etcd-0"},
    )
    status, error = await get(server, f"{PATH}/etcd-1")
    assert (status, error["message"]) == (404, 'componentstatus "etcd-1" not found')


async def test_table(server: APIServer) -> None:
    _, table = await get(server, PATH, **TABLE)
    assert [row["cells"] for row in table["rows"]] == [
        ["controller-manager", "Unhealthy", "a task ended", ""],
        ["etcd-0", "Healthy", "ok", ""],
        ["scheduler", "Healthy", "ok", ""],
    ]
    assert table["rows"][1]["object"]["metadata"] == {"name": "etcd-0"}


async def test_refused_connections_are_told() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    where = f"127.0.0.1:{port}"
    assert await probe(port) == (
        "False",
        f'Get "https://{where}/healthz": dial tcp {where}: connect: connection refused',
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nok", ("True", "ok")),
        (b"HTTP/1.0 500 No\r\n\r\nno", ("False", "HTTP probe failed with statuscode: 500")),
    ],
)
async def test_others_are_asked(tmp_path: Path, answer: bytes, said: tuple[str, str]) -> None:
    pki = ClusterPKI(tmp_path, datetime.now(UTC))
    pki.apiserver(ips=["127.0.0.1"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.crt("apiserver"), pki.key("apiserver"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"GET /healthz ")
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        assert await probe(listening.sockets[0].getsockname()[1]) == said
