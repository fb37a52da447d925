"""The HTTPS client against a small server with TLS and client certificates on loopback."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web

from pilothouse.apimachinery.errors import StatusError, is_conflict
from pilothouse.apimachinery.testing import FakeClock, make_config_map
from pilothouse.componentbase.certs import make_ca, make_client_cert, make_serving_cert
from pilothouse.kubeclient.https import HTTPSClient, path_of
from pilothouse.kubeclient.interfaces import DeleteOptions, ListOptions
from pilothouse.kubeclient.kubeconfig import ClientConfig
from pilothouse.kubeclient.resources import CONFIG_MAPS, DEPLOYMENTS, NODES


class ImpatientClock(FakeClock):
    """Sleeping takes no time, but is noted."""

    def __init__(self):
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.advance(seconds)


class Server:
    """Answers from a list of prepared answers and keeps the requests."""

    def __init__(self):
        self.requests: list[tuple[str, str, dict, object]] = []
        self.answers: list[object] = []

    async def handle(self, request):
        body = await request.read()
        self.requests.append(
            (
                request.method,
                str(request.rel_url),
                dict(request.headers),
                json.loads(body) if body else None,
            )
        )
        peer = request.transport.get_extra_info("peercert")
        self.peer = dict(x[0] for x in peer["subject"])["commonName"] if peer else ""
        answer = self.answers.pop(0)
        if callable(answer):
            return await answer(request)
        return answer


@pytest.fixture(scope="module")
def pki():
    now = datetime.now(UTC)
    ca = make_ca("ca", now=now)
    return {
        "ca": ca,
        "server": make_serving_cert(
            ca, "localhost", names=["localhost"], ips=["127.0.0.1"], now=now
        ),
        "client": make_client_cert(ca, "alice", ["devs"], now=now),
    }


@pytest.fixture
async def server(pki, tmp_path):
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = tmp_path / "pair.pem"
    pair.write_bytes(pki["server"].cert + pki["server"].key)
    context.load_cert_chain(pair)
    context.load_verify_locations(cadata=pki["ca"].cert.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.port = site._server.sockets[0].getsockname()[1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(server, pki):
    config = ClientConfig(
        f"https://127.0.0.1:{server.port}",
        ca_data=pki["ca"].cert,
        client_certificate_data=pki["client"].cert,
        client_key_data=pki["client"].key,
        user_agent="pilothouse-test/v1.37.2",
    )
    client = HTTPSClient(config, ImpatientClock())
    yield client
    await client.close()


def status(code, reason, **headers):
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
            "message": f"it is {reason}", "code": code}  # fmt: skip
    return web.json_response(body, status=code, headers=headers)


async def test_identity_paths_and_bodies(server, client):
    server.answers = [web.json_response({"kind": "ConfigMap"}) for _ in range(5)]
    await client.get(CONFIG_MAPS, "x", "a")
    assert server.peer == "alice"
    await client.create(CONFIG_MAPS, make_config_map("x", "a"), field_manager="me", dry_run=True)
    await client.update(DEPLOYMENTS, {"metadata": {"name": "d", "namespace": "a"}},
                        subresource="status")  # fmt: skip
    await client.patch(NODES, "n", {"a": None}, "application/merge-patch+json", force=True)
    await client.delete(
        CONFIG_MAPS, "x", "a", DeleteOptions(0, "Foreground", "u", "7", dry_run=True)
    )
    assert [(m, u) for m, u, _, _ in server.requests] == [
        ("GET", "/api/v1/namespaces/a/configmaps/x"),
        ("POST", "/api/v1/namespaces/a/configmaps?fieldManager=me&dryRun=All"),
        ("PUT", "/apis/apps/v1/namespaces/a/deployments/d/status"),
        ("PATCH", "/api/v1/nodes/n?force=true"),
        ("DELETE", "/api/v1/namespaces/a/configmaps/x"),
    ]
    assert server.requests[0][2]["User-Agent"] == "pilothouse-test/v1.37.2"
    assert server.requests[3][2]["Content-Type"] == "application/merge-patch+json"
    assert server.requests[3][3] == {"a": None}
    assert server.requests[4][3] == {
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground", "dryRun": ["All"],
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    }  # fmt: skip


async def test_list_fills_in_what_items_leave_out(server, client):
    server.answers = [
        web.json_response(
            {
                "kind": "ConfigMapList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": "9", "continue": "more"},
                "items": [{"metadata": {"name": "x"}}],
            }
        )
    ]
    page = await client.list(CONFIG_MAPS, "", ListOptions(label_selector="a in (b)", limit=1))
    assert page.items == [{"metadata": {"name": "x"}, "apiVersion": "v1", "kind": "ConfigMap"}]
    assert (page.resource_version, page.continue_token) == ("9", "more")
    assert server.requests[0][1] == "/api/v1/configmaps?labelSelector=a+in+(b)&limit=1"


async def test_errors_carry_their_status(server, client):
    server.answers = [status(409, "Conflict"), web.Response(status=404, text="no such page")]
    with pytest.raises(StatusError) as conflict:
        await client.update(CONFIG_MAPS, make_config_map("x", "a"))
    assert is_conflict(conflict.value) and str(conflict.value) == "it is Conflict"
    with pytest.raises(StatusError) as missing:
        await client.request("GET", "/nowhere")
    assert missing.value.code == 404 and "no such page" in str(missing.value)


async def test_retry_after_is_obeyed(server, client):
    retry = {"Retry-After": "3"}
    server.answers = [
        status(429, "TooManyRequests", **retry),
        status(503, "ServiceUnavailable", **retry),
        web.json_response({"kind": "ConfigMap"}),
    ]
    await client.create(CONFIG_MAPS, make_config_map("x", "a"))
    assert client._clock.slept == [3.0, 3.0]
    server.answers = [status(500, "InternalError")]
    with pytest.raises(StatusError):
        await client.get(CONFIG_MAPS, "x", "a")
    server.answers = [status(429, "TooManyRequests", **retry) for _ in range(11)]
    with pytest.raises(StatusError):
        await client.get(CONFIG_MAPS, "x", "a")
    assert server.answers == []


async def test_get_is_tried_again_when_nobody_listens(client, server):
    lost = HTTPSClient(replace(client.config, server="https://127.0.0.1:1"), ImpatientClock())
    with pytest.raises(ConnectionError):
        await lost.get(CONFIG_MAPS, "x", "a")
    assert len(lost._clock.slept) == 10
    with pytest.raises(ConnectionError):
        await lost.create(CONFIG_MAPS, make_config_map("x", "a"))
    assert len(lost._clock.slept) == 10
    await lost.close()


async def test_watch_gives_whole_lines_in_batches(server, client):
    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        lines = [
            json.dumps({"type": "ADDED", "object": make_config_map(f"c{i}", "a")}) + "\n"
            for i in range(3)
        ]
        data = "".join(lines).encode()
        await response.write(data[:40])
        await response.write(data[40:])
        return response

    server.answers = [stream]
    watch = await client.watch(
        CONFIG_MAPS, "a", ListOptions(resource_version="5"), timeout_seconds=300
    )
    seen = [event async for batch in watch for event in batch]
    assert [(e.type, e.object["metadata"]["name"]) for e in seen] == [
        ("ADDED", "c0"), ("ADDED", "c1"), ("ADDED", "c2"),
    ]  # fmt: skip
    assert server.requests[0][1] == (
        "/api/v1/namespaces/a/configmaps?resourceVersion=5&watch=true&allowWatchBookmarks=true"
        "&timeoutSeconds=300"
    )
    await watch.close()


async def test_error_event_of_a_watch_is_raised(server, client):
    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        error = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        await response.write(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
        return response

    server.answers = [stream]
    watch = await client.watch(CONFIG_MAPS, send_initial_events=True)
    with pytest.raises(StatusError, match="too old"):
        async for _ in watch:
            pass
    await watch.close()


async def test_a_broken_watch_is_a_connection_error(server, client):
    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":')
        request.transport.abort()
        return response

    server.answers = [stream]
    watch = await client.watch(CONFIG_MAPS)
    with pytest.raises(ConnectionError):
        async for _ in watch:
            pass
    await watch.close()


async def test_server_with_another_ca_is_refused(server, client, pki):
    other = make_ca("other", now=datetime.now(UTC))
    stranger = HTTPSClient(replace(client.config, ca_data=other.cert), ImpatientClock())
    with pytest.raises(ConnectionError):
        await stranger.create(CONFIG_MAPS, make_config_map("x", "a"))
    await stranger.close()


async def test_token_file_is_read_again(server, client, tmp_path):
    token = tmp_path / "token"
    token.write_text("one\n")
    config = replace(
        client.config, token_file=str(token), client_certificate_data=b"", client_key_data=b""
    )
    clock = ImpatientClock()
    bearer = HTTPSClient(config, clock)
    server.answers = [web.json_response({}) for _ in range(2)]
    await bearer.get(NODES, "n")
    token.write_text("two\n")
    clock.advance(61)
    await bearer.get(NODES, "n")
    assert [h["Authorization"] for _, _, h, _ in server.requests] == ["Bearer one", "Bearer two"]
    await bearer.close()


async def test_impersonation_and_another_server_name(server, client):
    config = replace(
        client.config, impersonate="bob", impersonate_groups=("a", "b"), tls_server_name="localhost"
    )
    other = HTTPSClient(config, ImpatientClock())

    async def echo(request):
        return web.json_response({"groups": request.headers.getall("Impersonate-Group")})

    server.answers = [echo]
    assert (await other.get(NODES, "n"))["groups"] == ["a", "b"]
    await other.close()
    stranger = HTTPSClient(replace(config, tls_server_name="elsewhere"), ImpatientClock())
    with pytest.raises(ConnectionError):
        await stranger.create(CONFIG_MAPS, make_config_map("x", "a"))
    await stranger.close()


def test_paths():
    assert path_of(CONFIG_MAPS, "a", "x/y") == "/api/v1/namespaces/a/configmaps/x%2Fy"
    assert path_of(NODES, "", "n", "status") == "/api/v1/nodes/n/status"
