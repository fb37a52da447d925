"""/metrics as Prometheus and dashboards for kube-apiserver read it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pilothouse.apiserver.metrics import compress_user_name, dry_run_of, reported_verb, scope_of
from pilothouse.apiserver.request.info import parse_request_info
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server

PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def server() -> AsyncIterator[APIServer]:
    async with running_server(serve=True, authorization_mode=("AlwaysAllow",)) as running:
        yield running


@pytest.fixture
async def http(server: APIServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


async def scrape(http: aiohttp.ClientSession, path: str = "/metrics", **headers: str) -> str:
    async with http.get(path, headers=headers) as response:
        assert response.status == 200
        return await response.text()


def value(text: str, name: str, /, **labels: str) -> float | None:
    for line in text.splitlines():
        if line.startswith(f"{name}{{") or line.startswith(f"{name} "):
            found = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if all(found.get(key) == want for key, want in labels.items()):
                return float(line.rpartition(" ")[2])
    return None


async def test_requests_are_counted(http: aiohttp.ClientSession) -> None:
    await http.post(PATH, json={"metadata": {"name": "a"}})
    await http.post(f"{PATH}?dryRun=All", json={"metadata": {"name": "b"}})
    for _ in range(3):
        await http.get(f"{PATH}/a")
    await http.get(f"{PATH}/none")
    await http.get(f"{PATH}?limit=1")
    await http.get("/api/v1/nonsense/x")
    merge = {"Content-Type": "application/merge-patch+json"}
    await http.patch(f"{PATH}/a", data=b"{}", headers=merge)
    text = await scrape(http)
    name = "apiserver_request_total"
    what: dict[str, str] = {"resource": "configmaps", "version": "v1", "component": "apiserver"}
    assert value(text, name, verb="POST", dry_run="", code="201", scope="resource", **what) == 1
    assert value(text, name, verb="POST", dry_run="All", code="201", **what) == 1
    assert value(text, name, verb="GET", code="200", scope="resource", **what) == 3
    assert value(text, name, verb="GET", code="404", scope="resource", **what) == 1
    assert value(text, name, verb="LIST", code="200", scope="namespace", **what) == 1
    assert value(text, name, verb="PATCH", code="200", **what) == 1
    assert "nonsense" not in text
    seconds = "apiserver_request_duration_seconds"
    assert value(text, f"{seconds}_count", verb="GET", **what) == 4
    assert value(text, f"{seconds}_bucket", verb="GET", le="+Inf", **what) == 4
    assert value(text, "apiserver_response_sizes_count", verb="LIST", **what) == 1
    assert value(text, "apiserver_storage_objects", resource="configmaps") is not None
    assert value(text, "etcd_requests_total", operation="create", resource="configmaps")
    assert value(text, "kubernetes_build_info", git_version="v1.37.2") == 1
    assert (value(text, "process_resident_memory_bytes") or 0) > 10_000_000


async def test_bodies_count_of_what_is_served(http: aiohttp.ClientSession) -> None:
    await http.post(PATH, json={"metadata": {"name": "a"}})
    for number in range(5):
        path = f"/apis/example.com/v1/namespaces/default/things-{number}"
        assert (await http.post(path, json={})).status == 404
    text = await scrape(http)
    name = "apiserver_request_body_size_bytes_count"
    assert value(text, name, resource="configmaps", verb="create") == 1
    assert "things-" not in text


async def test_watches_are_a_gauge(http: aiohttp.ClientSession) -> None:
    labels = {"verb": "WATCH", "resource": "configmaps", "scope": "namespace"}
    watch = await http.get(f"{PATH}?watch=1")
    await http.post(PATH, json={"metadata": {"name": "event"}})
    await watch.content.readline()
    text = await scrape(http)
    assert value(text, "apiserver_longrunning_requests", **labels) == 1
    counted = value(text, "apiserver_watch_events_total", resource="configmaps", version="v1")
    assert counted is not None and counted >= 1
    watch.close()
    await http.get("/readyz")
    assert value(await scrape(http), "apiserver_longrunning_requests", **labels) is None


async def test_openmetrics(http: aiohttp.ClientSession) -> None:
    await http.get(f"{PATH}/a")
    async with http.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as got:
        assert got.headers["Content-Type"].startswith("application/openmetrics-text")
        text = await got.text()
    assert text.endswith("# EOF\n")
    assert "# TYPE apiserver_request counter" in text
    assert "authentication_attempts_total{" in text
    async with http.get("/metrics") as plain:
        expected = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        assert plain.headers["Content-Type"] == expected


async def test_indicators(http: aiohttp.ClientSession) -> None:
    await http.get("/readyz")
    text = await scrape(http, "/metrics/slis")
    assert value(text, "kubernetes_healthcheck", name="etcd", type="readyz") == 1
    assert (
        value(text, "kubernetes_healthchecks_total", name="ping", type="readyz", status="success")
        == 1
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "content_type", "verb", "scope"),
    [
        ("GET", "/api/v1/pods", {}, "", "LIST", "cluster"),
        ("GET", "/api/v1/pods", {"watch": ["1"]}, "", "WATCH", "cluster"),
        ("GET", f"{PATH}/a", {}, "", "GET", "resource"),
        ("HEAD", "/version", {}, "", "GET", ""),
        ("DELETE", PATH, {}, "", "DELETE", "namespace"),
        ("PATCH", f"{PATH}/a", {}, "application/apply-patch+yaml", "APPLY", "resource"),
        ("GET", "/api/v1/namespaces/a/pods/p/log", {}, "", "CONNECT", "resource"),
        ("BREW", "/version", {}, "", "other", ""),
    ],
)
def test_labels(
    method: str, path: str, query: Any, content_type: str, verb: str, scope: str
) -> None:
    info = parse_request_info(method, path, query)
    assert scope_of(info) == scope
    assert reported_verb(method, info, scope, content_type) == verb


def test_names_stay_out() -> None:
    assert [compress_user_name(n) for n in ("bob", "a@b", "kubelet")] == [
        "other",
        "email_id",
        "kubelet",
    ]
    assert [dry_run_of({"dryRun": v}) for v in (["All"], ["x"], [])] == ["All", "invalid", ""]


async def test_protobuf_with_native_histograms(http: aiohttp.ClientSession) -> None:
    await http.get(f"{PATH}/a")
    accept = (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    )
    async with http.get("/metrics", headers={"Accept": accept}) as answer:
        assert answer.headers["Content-Type"].startswith("application/vnd.google.protobuf; proto=")
        body = await answer.read()
    name = b"apiserver_request_duration_seconds"
    assert bytes((0x0A, len(name))) + name in body
    assert b"\x28\x06" in body  # schema 3


async def test_what_is_there_without_an_audit_log(http: aiohttp.ClientSession) -> None:
    text = await scrape(http)
    assert value(text, "apiserver_audit_event_total") == 0
    assert value(text, "apiserver_audit_requests_rejected_total") == 0
    assert value(text, "apiserver_tls_handshake_errors_total") == 0
    assert value(text, "apiserver_cel_evaluation_duration_seconds_count") is not None
