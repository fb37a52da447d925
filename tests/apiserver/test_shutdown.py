"""Health checks as kube-apiserver shows them, and a stop that no client notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.request.context import Response
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server

PATH = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def settings() -> dict[str, Any]:
    return {"authorization_mode": ("AlwaysAllow",), "serve": True}


@pytest.fixture
async def server(settings: dict[str, Any]) -> AsyncIterator[APIServer]:
    async with running_server(**settings) as running:
        yield running


async def text(http: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with http.get(path) as response:
        return response.status, await response.text()


async def test_verbose_checks(server: APIServer) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        assert await text(http, "/livez") == (200, "ok")
        status, shown = await text(http, "/readyz?verbose")
        lines = shown.splitlines()
        assert status == 200 and lines[-1] == "readyz check passed"
        assert lines[:5] == [
            "[+]ping ok",
            "[+]log ok",
            "[+]etcd ok",
            "[+]etcd-readiness ok",
            "[+]informer-sync ok",
        ]
        assert "[+]poststarthook/rbac/bootstrap-roles ok" in lines
        assert lines[-2] == "[+]shutdown ok"
        _, livez = await text(http, "/livez?verbose")
        assert "[+]shutdown" not in livez and "[+]informer-sync" not in livez
        assert await text(http, "/readyz/etcd") == (200, "ok")
        assert await text(http, "/readyz/poststarthook/rbac/bootstrap-roles") == (200, "ok")
        assert (await text(http, "/readyz/nonsense"))[0] == 404
        _, shown = await text(http, "/healthz?verbose&exclude=etcd&exclude=nonsense")
        assert "[+]etcd excluded: ok" in shown
        warning = 'warn: some health checks cannot be excluded: no matches for "nonsense"'
        assert warning in shown


async def test_failures_keep_their_reasons_to_themselves(server: APIServer) -> None:
    async def broken() -> str:
        return "the secret reason"

    server.health["readyz"].checks["etcd"] = broken
    async with aiohttp.ClientSession(server.url) as http:
        status, shown = await text(http, "/readyz")
        assert status == 500
        assert "[-]etcd failed: reason withheld" in shown and "secret" not in shown
        assert shown.endswith("readyz check failed\n")
        single = await text(http, "/readyz/etcd")
        assert single == (500, "internal server error: the secret reason\n")
        assert (await text(http, "/livez"))[0] == 200
        assert (await text(http, "/readyz?exclude=etcd"))[0] == 200


async def test_requests_in_flight_are_finished(settings: dict[str, Any]) -> None:
    entered, held = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> Response:
        entered.set()
        await held.wait()
        return Response(body=b'{"done":true}')

    settings["shutdown_delay_duration"] = 5
    async with running_server(**settings) as server, aiohttp.ClientSession(server.url) as http:
        clock = server.clock
        assert isinstance(clock, FakeClock)
        server.api.routes["/slow"] = slow
        watch = await http.get(f"{PATH}?watch=1")
        running = asyncio.create_task(http.get("/slow"))
        await entered.wait()
        stopping = asyncio.create_task(server.shut_down())
        while not server.stopping:  # noqa: ASYNC110
            await asyncio.sleep(0)
        # Not ready any more, but all is served until the delay is over.
        status, shown = await text(http, "/readyz")
        assert status == 500 and "[-]shutdown failed: reason withheld" in shown
        assert (await text(http, "/livez"))[0] == 200
        assert (await text(http, PATH))[0] == 200
        clock.advance(5)
        assert server._http is not None
        while not server._http.draining:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with aiohttp.ClientSession() as other:
            with pytest.raises(aiohttp.ClientConnectorError):
                await other.get(f"{server.url}/version")
        assert not stopping.done()
        held.set()
        answer = await running
        assert answer.status == 200 and await answer.json() == {"done": True}
        await watch.content.read()  # ends, and not with an error
        await stopping


async def test_new_requests_are_sent_elsewhere(settings: dict[str, Any]) -> None:
    entered, held = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> Response:
        entered.set()
        await held.wait()
        return Response(body=b"{}")

    settings["shutdown_send_retry_after"] = True
    async with running_server(**settings) as server, aiohttp.ClientSession(server.url) as http:
        server.api.routes["/slow"] = slow
        running = asyncio.create_task(http.get("/slow"))
        await entered.wait()
        stopping = asyncio.create_task(server.shut_down())
        while not server.drain.refusing:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with http.get(PATH) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "5"
            assert response.headers["Connection"] == "close"
            assert "shutting down" in await response.text()
        assert (await text(http, "/livez"))[0] == 200
        held.set()
        assert (await running).status == 200
        await stopping


async def test_profiling_is_a_choice(server: APIServer, settings: dict[str, Any]) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        assert (await text(http, "/debug/pprof/goroutine"))[0] == 404
    async with running_server(**settings, profiling=True) as other:
        async with aiohttp.ClientSession(other.url) as http:
            status, shown = await text(http, "/debug/pprof/goroutine")
            assert status == 200 and "tasks" in shown
            assert "objects" in (await text(http, "/debug/pprof/heap"))[1]
            path = "/debug/api_priority_and_fairness/dump_priority_levels"
            assert "workload-low, true" in (await text(http, path))[1]
            assert (await text(http, "/debug/pprof/profile?seconds=x"))[0] == 400
