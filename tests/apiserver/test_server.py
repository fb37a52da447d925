"""A whole API server over TLS: certificates, headers, limits, errors, both embedded stores."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.certs import (
    ClusterPKI,
    make_ca,
    make_client_cert,
    make_serving_cert,
    save_pair,
)

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> ClusterPKI:
    made = ClusterPKI(tmp_path_factory.mktemp("pki"), datetime.now(UTC))
    made.ca()
    made.apiserver(ips=["127.0.0.1"])
    made.client("admin")
    return made


def tls_settings(pki: ClusterPKI) -> dict[str, Any]:
    return {
        "tls_cert_file": str(pki.crt("apiserver")),
        "tls_private_key_file": str(pki.key("apiserver")),
        "client_ca_file": str(pki.crt("ca")),
    }


@pytest.fixture
async def server(pki: ClusterPKI) -> AsyncIterator[APIServer]:
    async with running_server(clock=RealClock(), serve=True, **tls_settings(pki)) as running:
        yield running


def session(server: APIServer, pki: ClusterPKI, *, admin: bool = True) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=str(pki.crt("ca")))
    if admin:
        context.load_cert_chain(str(pki.crt("admin")), str(pki.key("admin")))
    return aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(ssl=context))


@pytest.fixture
async def http(server: APIServer, pki: ClusterPKI) -> AsyncIterator[aiohttp.ClientSession]:
    async with session(server, pki) as admin:
        yield admin


async def ask(
    http: aiohttp.ClientSession, method: str, path: str, **options: Any
) -> tuple[int, Any]:
    async with http.request(method, path, **options) as response:
        if "json" in response.content_type:
            return response.status, await response.json()
        return response.status, await response.text()


async def test_certificates_name_users(
    server: APIServer, pki: ClusterPKI, http: aiohttp.ClientSession
) -> None:
    body = {"metadata": {"name": "a"}, "data": {"x": "1"}}
    assert (await ask(http, "POST", PATH, json=body))[0] == 201
    assert (await ask(http, "GET", f"{PATH}/a"))[1]["data"] == {"x": "1"}
    async with session(server, pki, admin=False) as nobody:
        status, error = await ask(nobody, "GET", PATH)
        assert (status, error["message"]) == (
            403,
            'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" '
            'in API group "" in the namespace "default"',
        )
        assert (await ask(nobody, "GET", "/version"))[0] == 200
        assert (await ask(nobody, "GET", "/readyz")) == (200, "ok")
        status, error = await ask(nobody, "GET", "/metrics")
        assert (status, error["message"]) == (
            403,
            'forbidden: User "system:anonymous" cannot get path "/metrics"',
        )
        headers = {"Authorization": "Bearer rubbish"}
        status, error = await ask(nobody, "GET", PATH, headers=headers)
        assert (status, error["reason"], error["message"]) == (
            401,
            "Unauthorized",
            "Unauthorized",
        )


async def test_certificates_of_others_are_unauthorized(pki: ClusterPKI, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    save_pair(tmp_path, "other", make_client_cert(make_ca("kubernetes", now=now), "x", now=now))
    save_pair(tmp_path, "serving", make_serving_cert(pki.ca(), "x", now=now))
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("secret,ann,7\n")
    flags = {**tls_settings(pki), "token_auth_file": str(tokens)}
    async with running_server(clock=RealClock(), serve=True, **flags) as server:
        for name in ("other", "serving"):
            context = ssl.create_default_context(cafile=str(pki.crt("ca")))
            context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
            connector = aiohttp.TCPConnector(ssl=context)
            async with aiohttp.ClientSession(server.url, connector=connector) as http:
                for path in (PATH, "/version", "/readyz"):
                    status, error = await ask(http, "GET", path)
                    assert (status, error["message"]) == (401, "Unauthorized")
                # A good token beside it counts, as upstream.
                token = {"Authorization": "Bearer secret"}
                assert (await ask(http, "GET", "/version", headers=token))[0] == 200
                token = {"Authorization": "Bearer wrong"}
                assert (await ask(http, "GET", "/version", headers=token))[0] == 401
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"nonsense" * 100)
        await writer.drain()
        writer.close()
        assert server._http is not None
        async with asyncio.timeout(5):
            while True:
                if server._http.handshake_errors == 1:
                    break
                await asyncio.sleep(0.01)


async def test_response_headers(http: aiohttp.ClientSession) -> None:
    async with http.get(PATH, headers={"Audit-ID": "mine"}) as response:
        assert response.headers["Audit-Id"] == "mine"
        assert response.headers["Cache-Control"] == "no-cache, private"
    async with http.get(f"{PATH}/nope") as response:
        assert len(response.headers["Audit-Id"]) == 36
        assert response.status == 404


async def test_warnings(http: aiohttp.ClientSession) -> None:
    body = {"metadata": {"name": "w"}, "bogus": 1}
    async with http.post(PATH, json=body) as response:
        assert response.headers["Warning"] == '299 - "unknown field \\"bogus\\""'
    status, error = await ask(http, "POST", f"{PATH}?fieldValidation=Strict", json=body)
    assert status == 400 and 'strict decoding error: unknown field "bogus"' in error["message"]
    async with http.post(f"{PATH}?fieldValidation=Ignore&dryRun=All", json=body) as response:
        assert "Warning" not in response.headers


async def test_impersonation(server: APIServer, http: aiohttp.ClientSession) -> None:
    headers = {"Impersonate-User": "bob"}
    status, error = await ask(http, "GET", PATH, headers=headers)
    assert status == 403 and 'User "bob" cannot list' in error["message"]
    headers["Impersonate-Group"] = "system:masters"
    assert (await ask(http, "GET", PATH, headers=headers))[0] == 200
    status, error = await ask(http, "GET", PATH, headers={"Impersonate-Group": "g"})
    assert status == 400 and "without impersonating a user" in error["message"]
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    headers = {
        "Impersonate-User": "system:serviceaccount:ns:sa",
        "Impersonate-Uid": "u",
        "Impersonate-Extra-Scopes": "a",
    }
    status, answer = await ask(http, "POST", review, json={}, headers=headers)
    assert status == 201
    assert answer["status"]["userInfo"] == {
        "username": "system:serviceaccount:ns:sa",
        "uid": "u",
        "groups": [
            "system:serviceaccounts",
            "system:serviceaccounts:ns",
            "system:authenticated",
        ],
        "extra": {"scopes": ["a"]},
    }


@pytest.mark.parametrize(
    ("method", "path", "options", "code"),
    [
        ("POST", PATH, {"data": b"{"}, 400),
        ("POST", PATH, {"data": b"[]"}, 400),
        ("POST", PATH, {"data": b""}, 400),
        ("POST", PATH, {"data": b'{"metadata":1}'}, 400),
        ("POST", PATH, {"data": b"\xff\xfe"}, 400),
        ("POST", PATH, {"data": b"{}", "headers": {"Content-Type": "text/html"}}, 415),
        ("POST", PATH, {"json": {"kind": "Pod", "apiVersion": "v1"}}, 400),
        ("POST", PATH, {"json": {"metadata": {"name": "a", "labels": 1}}}, 400),
        ("POST", PATH, {"json": {"metadata": {"name": "x" * 300}}}, 422),
        ("POST", PATH, {"data": b"[" * 100_000}, 400),
        ("POST", f"{PATH}?dryRun=Some", {"json": {"metadata": {"name": "a"}}}, 422),
        ("POST", f"{PATH}?fieldValidation=Some", {"json": {"metadata": {"name": "a"}}}, 422),
        ("POST", f"{PATH}?fieldManager={'m' * 200}", {"json": {"metadata": {"name": "a"}}}, 422),
        ("POST", f"{PATH}/a", {"json": {}}, 405),
        ("PUT", PATH, {"json": {}}, 405),
        ("PUT", f"{PATH}/a", {"json": {"metadata": {}}}, 400),
        ("PUT", f"{PATH}/a", {"json": {"metadata": {"name": "b"}}}, 400),
        ("PUT", f"{PATH}/a", {"json": {"metadata": {"name": "a", "resourceVersion": "x"}}}, 404),
        ("PATCH", f"{PATH}/a", {"data": b"{}"}, 415),
        (
            "PATCH",
            f"{PATH}/a",
            {"data": b"[", "headers": {"Content-Type": "application/json-patch+json"}},
            400,
        ),
        (
            "PATCH",
            f"{PATH}/a?force=true",
            {"data": b"{}", "headers": {"Content-Type": "application/merge-patch+json"}},
            422,
        ),
        (
            "PATCH",
            f"{PATH}/a?fieldManager=m",
            {"data": b"a: [", "headers": {"Content-Type": "application/apply-patch+yaml"}},
            400,
        ),
        (
            "PATCH",
            f"{PATH}/a?fieldManager=m",
            {"data": b"{}", "headers": {"Content-Type": "application/apply-patch+yaml"}},
            400,
        ),
        (
            "DELETE",
            f"{PATH}/a",
            {"data": b"{", "headers": {"Content-Type": "application/json"}},
            400,
        ),
        ("DELETE", f"{PATH}/a", {"json": {"gracePeriodSeconds": "x"}}, 400),
        ("DELETE", f"{PATH}/a?gracePeriodSeconds=x", {}, 400),
        ("GET", f"{PATH}/a%2Fb", {}, 404),
        ("GET", f"{PATH}/..%2f..%2fsecrets", {}, 400),
        ("GET", "/api/v1/namespaces/%2e%2e/configmaps", {}, 400),
        ("GET", "/api/v1/namespaces/a%25b/configmaps", {}, 400),
        ("GET", f"{PATH}/%00", {}, 400),
        ("GET", "/apis/apps/v1/things", {}, 404),
        ("GET", "/api/v2/pods", {}, 404),
        ("OPTIONS", PATH, {}, 405),
        ("GET", f"{PATH}?labelSelector={'a' * 5000}", {}, 400),
    ],
)
async def test_bad_requests_are_the_clients_fault(
    http: aiohttp.ClientSession, method: str, path: str, options: dict[str, Any], code: int
) -> None:
    from yarl import URL

    if "data" in options and "headers" not in options:
        options = {**options, "headers": {"Content-Type": "application/json"}}
    base = str(http._base_url).rstrip("/")
    async with http.request(method, URL(base + path, encoded=True), **options) as response:
        status, error = response.status, await response.json()
    assert status == code, error
    assert error["kind"] == "Status" and error["code"] == code


async def test_a_path_outside_of_the_groups_is_plain_text(http: aiohttp.ClientSession) -> None:
    for path in ("/nope", "/apis/nope/v1/things", "/openapi/nope"):
        async with http.get(path) as response:
            assert (response.status, response.content_type) == (404, "text/plain")
            assert await response.text() == "404 page not found\n"


async def test_bodies_over_three_megabytes(http: aiohttp.ClientSession) -> None:
    body = b'{"metadata":{"name":"big"},"data":{"x":"' + b"x" * (3 << 20) + b'"}}'
    headers = {"Content-Type": "application/json"}
    status, error = await ask(http, "POST", PATH, data=io.BytesIO(body), headers=headers)
    assert (status, error["message"]) == (
        413,
        "Request entity too large: limit is 3145728",
    )


async def test_big_bodies_of_strangers_are_not_taken_in(tmp_path: Path) -> None:
    """Proxied bodies may be big; they are read once it is known that they may be passed on."""
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('root,root,1,"system:masters"\nann,ann,2\n')
    size = 30 << 20
    path = "/api/v1/namespaces/default/services/x/proxy/upload"
    async with running_server(clock=RealClock(), serve=True, token_auth_file=str(tokens)) as server:

        async def send(authorization: str) -> tuple[int, int]:
            """(status, how much was sent before the answer came)."""
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
            writer.write(f"{head}{authorization}\r\n".encode())
            answer = asyncio.ensure_future(reader.readuntil(b"\r\n"))
            sent = 0
            try:
                while sent < size and not answer.done():
                    writer.write(bytes(1 << 16))
                    sent += 1 << 16
                    await writer.drain()
            except ConnectionError:
                pass
            status = int((await answer).split()[1])
            writer.close()
            return status, sent

        for authorization, expected in (
            ("", 403),
            ("Authorization: Bearer wrong\r\n", 401),
            ("Authorization: Bearer ann\r\n", 403),
        ):
            status, sent = await send(authorization)
            assert status == expected
            assert sent < size / 2
        assert await send("Authorization: Bearer root\r\n") == (503, size)  # no such service


async def test_yaml_both_ways(http: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
    body = "metadata:\n  name: why\ndata:\n  x: '1'\n"
    status, text = await ask(http, "POST", PATH, data=body, headers=headers)
    assert status == 201 and "kind: ConfigMap" in text


async def test_pretty_answers_for_curl(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/namespaces/default", headers={"User-Agent": "curl/8"}) as response:
        assert (await response.text()).startswith('{\n  "')


async def test_health_checks(http: aiohttp.ClientSession) -> None:
    assert await ask(http, "GET", "/livez") == (200, "ok")
    status, text = await ask(http, "GET", "/readyz?verbose")
    assert status == 200 and "[+]ping ok" in text and text.endswith("readyz check passed\n")
    assert await ask(http, "GET", "/healthz/etcd") == (200, "ok")
    assert (await ask(http, "GET", "/healthz/nope"))[0] == 404
    status, text = await ask(http, "GET", "/livez?verbose&exclude=etcd")
    assert "[+]etcd excluded: ok" in text


async def test_the_application_for_people(http: aiohttp.ClientSession) -> None:
    status, text = await ask(http, "GET", "/docs")
    assert status == 200 and "swagger" in text.lower()
    status, document = await ask(http, "GET", "/openapi.json")
    assert status == 200 and "/version" in document["paths"]


async def test_too_many_requests(pki: ClusterPKI) -> None:
    settings = {**tls_settings(pki), "max_requests_inflight": 1, "anonymous_auth": True}
    settings["enable_priority_and_fairness"] = False
    async with running_server(clock=RealClock(), serve=True, **settings) as server:
        held = asyncio.Event()
        entered = asyncio.Event()

        async def slow(request: Any) -> Any:
            from pilothouse.apiserver.request.context import Response

            entered.set()
            await held.wait()
            return Response(body=b"{}")

        server.api.routes["/version"] = slow
        async with session(server, pki, admin=False) as nobody, session(server, pki) as admin:
            first = asyncio.get_running_loop().create_task(ask(nobody, "GET", "/version"))
            await entered.wait()
            async with nobody.get("/readyz") as response:
                assert response.status == 429
                assert response.headers["Retry-After"] == "1"
            assert (await ask(admin, "GET", "/readyz"))[0] == 200
            held.set()
            assert (await first)[0] == 200


async def test_sqlite_survives_a_restart(tmp_path: Path) -> None:
    config: dict[str, Any] = {"storage": "sqlite", "data_dir": str(tmp_path)}
    async with running_server(clock=RealClock(), **config) as server:
        made = await server.local_client().create(
            CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}, "data": {"x": "1"}}
        )
    async with running_server(clock=RealClock(), namespaces=(), **config) as server:
        client = server.local_client()
        assert await client.get(CONFIG_MAPS, "a", "default") == made
        changed = await client.update(CONFIG_MAPS, {**made, "data": {"x": "2"}})
        assert int(changed["metadata"]["resourceVersion"]) > int(
            made["metadata"]["resourceVersion"]
        )


async def test_a_failed_start_can_be_stopped(server: APIServer) -> None:
    config = ServerConfig(secure_port=server.port)
    second = APIServer(config, RealClock())
    with pytest.raises(OSError):
        await second.start()
    await second.stop()


async def test_two_servers_in_one_process() -> None:
    async with running_server() as one, running_server() as two:
        body = {"metadata": {"name": "only", "namespace": "default"}}
        await one.local_client().create(CONFIG_MAPS, body)
        names = [o["metadata"]["name"] for o in (await two.local_client().list(CONFIG_MAPS)).items]
        assert "only" not in names
