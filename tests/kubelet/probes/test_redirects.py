"""HTTP probes follow redirects on the pod itself, never to somewhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubelet.probes.prober import ENDED_REDIRECTS, HTTPGetter, Prober
from pilothouse.kubelet.probes.results import probe_spec
from pilothouse.kubelet.runtime.fake import FakeRuntime

ANSWERS = {
    "/local": (302, "/healthz?x=1"),
    "/whole": (307, "http://127.0.0.1:{port}/healthz?x=1"),
    "/elsewhere": (302, "http://0.0.0.0/"),
    "/circle": (301, "/circle"),
    "/bad": (302, "/missing"),
    "/healthz?x=1": (200, ""),
}


@asynccontextmanager
async def pod_server() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        status, location = ANSWERS.get(path, (404, ""))
        location = location.format(port=port)
        writer.write(f"HTTP/1.1 {status} x\r\nLocation: {location}\r\n\r\nseen {path}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield port
    finally:
        server.close()


@pytest.mark.parametrize(
    ("path", "success", "text"),
    [
        ("/local", True, "seen /healthz?x=1"),
        ("/whole", True, "seen /healthz?x=1"),
        ("/elsewhere", True, f"{ENDED_REDIRECTS}, Response body: seen /elsewhere"),
        ("/bad", False, "HTTP probe failed with statuscode: 404"),
        ("/circle", False, "stopped after 10 redirects"),
    ],
)
async def test_redirects(path: str, success: bool, text: str) -> None:
    runtime = FakeRuntime(FakeClock(), Random(1), pod_cidr="10.244.0.0/24")
    async with pod_server() as port:
        container = {"name": "c", "livenessProbe": {"httpGet": {"path": path, "port": port}}}
        spec = probe_spec(container, "liveness")
        assert spec is not None
        prober = Prober(runtime, HTTPGetter())
        outcome = await prober.probe(spec, {"metadata": {}}, container, "id", "127.0.0.1")
    assert outcome[0] is success
    assert outcome[1].endswith(text)
