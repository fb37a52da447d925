"""Ways to a kubelet: HTTPS with the API server's certificate, or a call in this process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.kubelet_connection import HTTPSNodes, LocalNodes
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.testing_listers import DictListers
from pilothouse.componentbase.certs import ClusterPKI
from pilothouse.componentbase.serving.http_server import HTTPServer
from pilothouse.componentbase.serving.interfaces import HTTPRequest, PlainResponse
from pilothouse.componentbase.serving.tls import server_context

NODES = GroupResource("", "nodes")


class Kubelet:
    """What a kubelet's HTTPS port does, as far as this test needs it."""

    def __init__(self) -> None:
        self.peers: list[bytes | None] = []

    async def handle(self, request: HTTPRequest) -> PlainResponse:
        self.peers.append(request.peer_der)
        if request.upgrade is not None:
            reader, writer = await request.upgrade()
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
            writer.write((await reader.readexactly(3))[::-1])
            writer.close()
            return PlainResponse(hijacked=True)

        async def chunks() -> AsyncIterator[bytes]:
            yield request.target
            yield b"|" + request.body
            yield b"|" + request.headers.get("x-mine", "").encode()

        if request.target.startswith(b"/plain"):
            return PlainResponse(404, b"no such thing", headers=[("X-Other", "1")])
        return PlainResponse(chunks=chunks())

    def body_limit(self, method: str, target: bytes) -> int:
        return 1000

    def too_large(self, method: str, target: bytes) -> PlainResponse:
        return PlainResponse(413)


@pytest.fixture
def pki(tmp_path: Path) -> ClusterPKI:
    made = ClusterPKI(tmp_path, datetime.now(UTC))
    made.ca()
    made.kubelet("n", ips=["127.0.0.1"])
    made.client("apiserver-kubelet-client")
    return made


@pytest.fixture
async def kubelet(pki: ClusterPKI) -> AsyncIterator[tuple[Kubelet, int]]:
    handler = Kubelet()
    server = HTTPServer(handler)
    cert = next(p for p in pki.crt("x").parent.glob("kubelet*.crt") if "client" not in p.name)
    context = server_context(
        str(cert), str(cert.with_suffix(".key")), str(pki.crt("ca")), require_client=True
    )
    port = await server.listen("127.0.0.1", 0, tls=context)
    yield handler, port
    await server.stop(grace=0)


@pytest.fixture
def nodes(pki: ClusterPKI, kubelet: tuple[Kubelet, int]) -> HTTPSNodes:
    listers = DictListers()
    status = {
        "addresses": [
            {"type": "Hostname", "address": "no-such-host"},
            {"type": "InternalIP", "address": "127.0.0.1"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet[1]}},
    }
    listers.put(NODES, {"metadata": {"name": "n"}, "status": status})
    listers.put(NODES, {"metadata": {"name": "bare"}})
    config = ServerConfig(
        kubelet_client_certificate=str(pki.crt("apiserver-kubelet-client")),
        kubelet_client_key=str(pki.key("apiserver-kubelet-client")),
        kubelet_certificate_authority=str(pki.crt("ca")),
    )
    return HTTPSNodes(config, listers)


async def body_of(response: Response) -> bytes:
    if response.chunks is None:
        return response.body
    return b"".join([chunk async for chunk in response.chunks])


async def test_requests(nodes: HTTPSNodes, kubelet: tuple[Kubelet, int]) -> None:
    headers = {"x-mine": "y", "authorization": "secret", "connection": "close"}
    response = await nodes.request("n", "POST", "/a b", "q=1", headers, b"body")
    assert (response.status, await body_of(response)) == (200, b"/a%20b?q=1|body|y")
    assert kubelet[0].peers[0]
    response = await nodes.request("n", "GET", "/plain")
    assert (response.status, await body_of(response)) == (404, b"no such thing")
    assert ("x-other", "1") in response.headers


async def test_upgrades_pass_bytes_through(nodes: HTTPSNodes) -> None:
    taken: asyncio.Queue[Any] = asyncio.Queue()
    listener = await asyncio.start_server(lambda r, w: taken.put_nowait((r, w)), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    inside = await taken.get()
    headers = {"connection": "Upgrade", "upgrade": "x"}
    writer.write(b"abc")
    passing = asyncio.get_running_loop().create_task(
        nodes.upgrade("n", "POST", "/exec", "", headers, *inside)
    )
    answer = await reader.read()
    writer.close()
    await passing
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"\r\n\r\ncba")
    listener.close()


async def test_nodes_that_can_not_be_reached(nodes: HTTPSNodes) -> None:
    with pytest.raises(StatusError) as raised:
        await nodes.request("other", "GET", "/")
    assert raised.value.message == 'nodes "other" not found'
    with pytest.raises(StatusError) as raised:
        await nodes.request("bare", "GET", "/")
    assert "no preferred addresses found" in raised.value.message


async def test_a_kubelet_that_is_down(nodes: HTTPSNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTTPSNodes, "address", lambda self, name: ("127.0.0.1", 1))
    with pytest.raises(StatusError) as raised:
        await nodes.request("n", "GET", "/")
    assert raised.value.code == 500 and "error dialing backend" in raised.value.message


async def test_local_nodes_first() -> None:
    class Own:
        async def request(self, *arguments: Any) -> Response:
            return Response(body=b"own")

        async def upgrade(self, *arguments: Any) -> None:
            raise AssertionError

    class Other:
        async def request(self, *arguments: Any) -> Response:
            return Response(body=b"other")

        async def upgrade(self, *arguments: Any) -> None:
            raise AssertionError

    local = LocalNodes(Other())
    local.register("n", Own())
    assert (await local.request("n", "GET", "/")).body == b"own"
    assert (await local.request("m", "GET", "/")).body == b"other"
    local.unregister("n")
    assert (await local.request("n", "GET", "/")).body == b"other"
    with pytest.raises(StatusError):
        await LocalNodes().request("n", "GET", "/")


def test_without_an_authority_any_certificate_is_taken() -> None:
    nodes = HTTPSNodes(ServerConfig(), DictListers())
    assert nodes._tls().verify_mode is ssl.CERT_NONE
