"""/flagz and /statusz as people and as programs read them."""

from __future__ import annotations

import aiohttp
import pytest

from pilothouse.apiserver.endpoints.zpages import go_duration, shown
from pilothouse.apiserver.testing import running_server


async def ask(http: aiohttp.ClientSession, path: str, accept: str) -> tuple[int, str, str]:
    async with http.get(path, headers={"Accept": accept}) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_pages() -> None:
    async with (
        running_server(serve=True, authorization_mode=("AlwaysAllow",)) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        status, kind, text = await ask(http, "/flagz", "text/plain")
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        assert text.startswith("\napiserver flagz\nWarning: ")
        assert "\nauthorization-mode:[AlwaysAllow]\n" in text
        assert "\nrequest-timeout:1m0s\n" in text
        status, kind, text = await ask(http, "/statusz", "*/*")
        assert status == 200 and "\nBinary version: 1.37.2\nEmulation version: 1.37\n" in text
        assert "\nPaths: /flagz /healthz /livez /metrics /readyz /statusz /version\n" in text


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
async def test_objects(version: str) -> None:
    async with (
        running_server(serve=True, authorization_mode=("AlwaysAllow",)) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        for kind, field in (("Flagz", "flags"), ("Statusz", "paths")):
            wanted = f"g=config.k8s.io;v={version};as={kind}"
            accept = f"application/json;v={version};g=config.k8s.io;as={kind}"
            path = f"/{kind.lower()}"
            async with http.get(path, headers={"Accept": accept}) as response:
                assert response.headers["Content-Type"] == f"application/json;{wanted}"
                answer = await response.json(content_type=None)
            assert answer["kind"] == kind and answer["metadata"] == {"name": "apiserver"}
            assert answer["apiVersion"] == f"config.k8s.io/{version}" and answer[field]
            status, _, text = await ask(http, path, "application/json")
            assert status == 406
            assert "application/json, application/yaml, text/plain" in text


def test_values_look_like_pflags() -> None:
    assert [go_duration(s) for s in (0, 0.25, 15, 90, 3600)] == [
        "0s", "250ms", "15s", "1m30s", "1h0m0s",
    ]  # fmt: skip
    assert shown("x", ("a", "b")) == "[a,b]"
    assert shown("x", None) == "" and shown("x", True) == "true"
