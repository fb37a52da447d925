"""Spans of requests, of the store and of webhooks; the configuration; propagation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from pilothouse.apiserver.request.info import parse_request_info
from pilothouse.apiserver.testing import running_server
from pilothouse.apiserver.trace_context import CURRENT, span, trace_headers
from pilothouse.apiserver.tracing import (
    Tracing,
    load_tracing,
    parse_configuration,
    parse_traceparent,
    span_name,
)

PATH = "/api/v1/namespaces/default/configmaps"
HEAD = {"apiVersion": "apiserver.k8s.io/v1", "kind": "TracingConfiguration"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def named(self, name: str) -> list[ReadableSpan]:
        return [one for one in self.spans if one.name == name]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "tracing").write_text(
        "apiVersion: apiserver.k8s.io/v1\nkind: TracingConfiguration\n"
        "samplingRatePerMillion: 1000000\n"
    )
    (tmp_path / "tokens").write_text('good,alice,u1,"system:masters"\nplain,bob,u2\n')
    return {
        "tracing_config_file": str(tmp_path / "tracing"),
        "token_auth_file": str(tmp_path / "tokens"),
        "authorization_mode": ("AlwaysAllow",),
        "serve": True,
    }


def kept(monkeypatch: pytest.MonkeyPatch, rate: int | None = 1_000_000) -> Kept:
    exporter = Kept()
    monkeypatch.setattr(
        "pilothouse.apiserver.tracing.load_tracing",
        lambda path: Tracing("http://unused", rate, exporter),
    )
    return exporter


async def test_requests_and_their_parts(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = kept(monkeypatch)
    async with running_server(**settings) as server:
        headers = {"Authorization": "Bearer good", "traceparent": PARENT, "Audit-Id": "mine"}
        async with aiohttp.ClientSession(server.url, headers=headers) as http:
            await http.post(PATH, json={"metadata": {"name": "a"}})
            await http.get(f"{PATH}/none")
    (created,) = exporter.named("POST /api/v1/namespaces/{:namespace}/configmaps")
    assert created.context is not None and created.parent is not None
    assert f"{created.context.trace_id:032x}" == TRACE
    assert dict(created.attributes or {}) == {
        "http.request.method": "POST",
        "http.target": PATH,
        "audit-id": "mine",
        "http.response.status_code": 201,
    }
    (stored,) = exporter.named("Create etcd3")
    assert stored.parent is not None and stored.parent.span_id == created.context.span_id
    (missing,) = exporter.named("GET /api/v1/namespaces/{:namespace}/configmaps/{:name}")
    assert (missing.attributes or {})["http.response.status_code"] == 404
    assert CURRENT.get() is None


async def test_strangers_begin_a_trace_of_their_own(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = kept(monkeypatch)
    async with running_server(**settings) as server:
        headers = {"Authorization": "Bearer plain", "traceparent": PARENT}
        async with aiohttp.ClientSession(server.url, headers=headers) as http:
            await http.get("/version")
    (one,) = exporter.named("GET")
    assert one.parent is None and one.context is not None
    assert f"{one.context.trace_id:032x}" != TRACE
    assert f"{one.links[0].context.trace_id:032x}" == TRACE


async def test_without_a_rate_only_sampled_callers_are_followed(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = kept(monkeypatch, None)
    async with running_server(**settings) as server:
        async with aiohttp.ClientSession(server.url) as http:
            for parent in (PARENT, ""):
                headers = {"Authorization": "Bearer good", "traceparent": parent}
                await http.get("/version", headers=headers)
    assert len(exporter.named("GET")) == 1


def test_parts_without_a_trace_cost_nothing() -> None:
    with span("anything"):
        assert trace_headers() == {}


async def test_parts_continue_elsewhere() -> None:
    exporter = Kept()
    tracing = Tracing("http://unused", 1_000_000, exporter)
    from pilothouse.apiserver.request.context import Request

    info = parse_request_info("GET", "/version")
    active = tracing.begin(Request("GET", "/version", {}, {}, info))
    CURRENT.set(active)
    with pytest.raises(OSError, match="refused"), span("Call webhook", url="u"):
        assert trace_headers()["traceparent"].startswith("00-")
        raise OSError("refused")
    CURRENT.set(None)
    active.end()
    await tracing.close()
    (call,) = exporter.named("Call webhook")
    assert not call.status.is_ok and (call.attributes or {})["url"] == "u"


async def test_spans_go_out_over_http(tmp_path: Path) -> None:
    """The real exporter, to a collector of the test's own."""
    bodies: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    path = tmp_path / "tracing"
    path.write_text(
        "apiVersion: apiserver.k8s.io/v1\nkind: TracingConfiguration\n"
        f"endpoint: 127.0.0.1:{port}\nsamplingRatePerMillion: 1000000\n"
    )
    async with running_server(tracing_config_file=str(path), serve=True) as server:
        async with aiohttp.ClientSession(server.url) as http:
            await http.get("/version")
    await runner.cleanup()
    assert any(b"apiserver" in body for body in bodies)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "X"}, "unable to decode tracing configuration data"),
        ({**HEAD, "samplingRatePerMillion": -1}, "sampling rate must be positive"),
        ({**HEAD, "samplingRatePerMillion": 2_000_000}, "less than or equal to one million"),
        ({**HEAD, "endpoint": "gopher://x"}, "unsupported scheme: gopher"),
    ],
)
def test_wrong_configurations(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_configuration(content)


def test_configurations() -> None:
    assert parse_configuration(HEAD) == ("http://localhost:4318/v1/traces", None)
    full = {**HEAD, "endpoint": "collector:4318", "samplingRatePerMillion": 5}
    assert parse_configuration(full) == ("http://collector:4318/v1/traces", 5)
    with pytest.raises(ValueError, match="unable to read"):
        load_tracing("/nowhere")


def test_names_and_parents() -> None:
    path = "/apis/apps/v1/namespaces/a/deployments/d/scale"
    wanted = "PUT /apis/apps/v1/namespaces/{:namespace}/deployments/{:name}/scale"
    assert span_name("PUT", parse_request_info("PUT", path)) == wanted
    for wrong in ("", "00-x", f"00-{'0' * 32}-b7ad6b7169203331-01", PARENT.replace("a", "z")):
        assert parse_traceparent(wrong) is None
    assert parse_traceparent(PARENT) is not None
