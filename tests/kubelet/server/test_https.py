from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.errors import new_internal_error
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.kubelet_connection import HTTPSNodes
from pilothouse.componentbase.certs import ClusterPKI
from pilothouse.componentbase.serving.http_server import HTTPServer
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.server.https import (
    REVIEWS,
    TOKEN_REVIEWS,
    AccessReviews,
    serve,
    subresources_of,
)

from .conftest import Pair, WebSocketClient
from .test_handler import Host


class Reviewer:
    """The API server: ``allowed`` are (user, verb, sub-resource)."""

    def __init__(self) -> None:
        self.allowed: set[tuple[str, str, str]] = set()
        self.asked: list[dict[str, Any]] = []
        self.down = False
        self.tokens: list[str] = []

    async def create(self, resource: object, obj: dict[str, Any]) -> dict[str, Any]:
        if resource == TOKEN_REVIEWS:
            self.tokens.append(obj["spec"]["token"])
            if obj["spec"]["token"] != "good":
                return {**obj, "status": {"error": "unknown"}}
            user = {"username": "ann", "groups": ["g", "system:authenticated"]}
            return {**obj, "status": {"authenticated": True, "user": user}}
        assert resource == REVIEWS
        if self.down:
            raise new_internal_error("down")
        spec = obj["spec"]
        self.asked.append(spec)
        what = spec["resourceAttributes"]
        key = (spec["user"], what["verb"], what["subresource"])
        return {**obj, "status": {"allowed": key in self.allowed}}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> ClusterPKI:
    made = ClusterPKI(tmp_path_factory.mktemp("pki"), datetime.now(UTC))
    made.kubelet("n", ips=["127.0.0.1"])
    made.client("apiserver-kubelet-client")
    made.node_client("n")
    return made


class Served:
    def __init__(self, host: Any, server: HTTPServer, pki: ClusterPKI) -> None:
        self.host = host
        self.port = server.addresses[0][1]
        self.pki = pki

    def tls(self, client: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.pki.crt("ca")))
        if client:
            context.load_cert_chain(self.pki.crt(client), self.pki.key(client))
        return context

    async def get(self, path: str, client: str = "", token: str = "") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(headers=headers) as session:
            url = f"https://127.0.0.1:{self.port}{path}"
            async with session.get(url, ssl=self.tls(client)) as response:
                return response.status, await response.text()


@pytest.fixture
async def served(tmp_path: Path, pki: ClusterPKI) -> AsyncIterator[Served]:
    host: Any = Host(tmp_path)
    await host.start()
    host.client = Reviewer()
    config = KubeletConfig(
        node_name="n", root_dir=str(tmp_path), port=0,
        tls_cert_file=str(pki.crt("kubelet-n")), tls_private_key_file=str(pki.key("kubelet-n")),
        client_ca_file=str(pki.crt("ca")),
    )  # fmt: skip
    server = await serve(host, config)
    yield Served(host, server, pki)
    await server.stop()


async def test_without_a_certificate(served: Served) -> None:
    for path in ("/healthz", "/pods", "/containerLogs/default/p/c"):
        assert await served.get(path) == (401, "Unauthorized")


async def test_bearer_tokens_are_asked_about_once(served: Served) -> None:
    reviewer = served.host.client
    reviewer.allowed.add(("ann", "get", "healthz"))
    assert await served.get("/healthz", token="good") == (200, "ok")
    assert reviewer.asked[-1]["groups"] == ["g", "system:authenticated"]
    assert (await served.get("/configz", token="good"))[0] == 403
    assert await served.get("/healthz", token="bad") == (401, "Unauthorized")
    assert reviewer.tokens == ["good", "bad"]


async def test_the_api_server_may_do_everything(served: Served) -> None:
    client = "apiserver-kubelet-client"
    assert await served.get("/healthz", client) == (200, "ok")
    assert await served.get("/containerLogs/default/p/c", client) == (200, "")
    status, text = await served.get("/containerLogs/default/p/d", client)
    assert (status, text.split(":")[0]) == (400, 'container "d" in pod "p" is waiting to start')
    assert served.host.client.asked == []


async def test_others_are_asked_about(served: Served) -> None:
    client, reviewer = "kubelet-client-n", served.host.client
    reviewer.allowed.add(("system:node:n", "get", "metrics"))
    assert (await served.get("/metrics", client))[0] == 200
    status, text = await served.get("/exec/default/p/c", client)
    assert status == 403
    assert text.startswith("Forbidden (user=system:node:n, verb=get, resource=nodes, ")
    assert reviewer.asked[-1]["groups"] == ["system:nodes", "system:authenticated"]
    assert reviewer.asked[-1]["resourceAttributes"] == {
        "verb": "get", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": "n",
    }  # fmt: skip
    reviewer.down = True
    assert (await served.get("/metrics", client))[0] == 200  # remembered
    status, text = await served.get("/stats/summary", client)
    assert (status, text.startswith("Authorization error")) == (500, True)


async def test_a_certificate_of_somebody_else(served: Served, tmp_path: Path) -> None:
    other = ClusterPKI(tmp_path / "other", datetime.now(UTC))
    other.client("apiserver-kubelet-client")
    context = served.tls()
    context.load_cert_chain(
        other.crt("apiserver-kubelet-client"), other.key("apiserver-kubelet-client")
    )
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{served.port}/healthz"
        async with session.get(url, ssl=context) as answer:
            assert (answer.status, await answer.text()) == (401, "Unauthorized")


async def test_exec_over_tls(served: Served) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{served.port}/exec/default/p/c?output=1&command=ls"
        async with session.ws_connect(
            url, protocols=("v4.channel.k8s.io",), ssl=served.tls("apiserver-kubelet-client")
        ) as socket:
            async with asyncio.timeout(10):
                messages = [message.data async for message in socket]
    assert messages[:2] == [b"\x01", b"\x01out"]
    assert messages[2][:1] == b"\x03" and b"Success" in messages[2]


async def test_decisions_grow_old(tmp_path: Path) -> None:
    host = Host(tmp_path)
    reviewer: Any = Reviewer()
    reviews = AccessReviews(reviewer, host.clock, "n")
    assert not await reviews.allowed("u", (), "get", "/metrics")
    reviewer.allowed.add(("u", "get", "metrics"))
    assert not await reviews.allowed("u", (), "get", "/metrics")
    host.clock.advance(31)
    assert await reviews.allowed("u", (), "get", "/metrics")
    reviewer.allowed.clear()
    host.clock.advance(299)
    assert await reviews.allowed("u", (), "get", "/metrics")
    host.clock.advance(2)
    assert not await reviews.allowed("u", (), "get", "/metrics")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/stats/summary", ["stats"]), ("/metrics/resource", ["metrics"]), ("/logs/", ["log"]),
        ("/pods", ["pods", "proxy"]), ("/runningPods/", ["pods", "proxy"]),
        ("/healthz", ["healthz", "proxy"]), ("/configz", ["configz", "proxy"]),
        ("/exec/a/b/c", ["proxy"]), ("/containerLogs/a/b/c", ["proxy"]), ("/", ["proxy"]),
    ],
)  # fmt: skip
def test_what_paths_need(path: str, expected: list[str]) -> None:
    assert subresources_of(path) == expected


async def test_the_api_servers_own_way_here(served: Served, pair: Pair) -> None:
    """``HTTPSNodes``: logs, and an exec whose bytes pass through two connections."""
    pki = served.pki
    node = {
        "metadata": {"name": "n"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": served.port}},
        },
    }
    listers: Any = type("Listers", (), {"get": lambda self, resource, ns, name: node})()
    config = ServerConfig(
        kubelet_certificate_authority=str(pki.crt("ca")),
        kubelet_client_certificate=str(pki.crt("apiserver-kubelet-client")),
        kubelet_client_key=str(pki.key("apiserver-kubelet-client")),
    )
    nodes = HTTPSNodes(config, listers)
    answer = await nodes.request("n", "GET", "/containerLogs/default/p/c", "follow=false")
    assert answer.status == 200 and answer.chunks is not None
    assert [chunk async for chunk in answer.chunks] == []
    ours, theirs = await pair()
    headers = WebSocketClient.headers("v5.channel.k8s.io")
    query = "output=1&command=ls"
    passing = asyncio.create_task(
        nodes.upgrade("n", "GET", "/exec/default/p/c", query, headers, *ours)
    )
    client = WebSocketClient(theirs)
    assert "101" in await client.head()
    await client.rest()
    await passing
    assert client.data(1) == b"out"
    assert b"Success" in client.data(3)
