"""The kubelet's port of a node in the cluster's own process."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.cluster.node_https import NodeHTTPS
from pilothouse.componentbase.certs import ClusterPKI
from pilothouse.kubelet.config import KubeletConfig


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Nobody:
    """An API server that knows no token."""

    async def create(self, *_: Any) -> dict[str, Any]:
        return {"status": {"authenticated": False}}


def node(tmp_path: Path, port: int) -> tuple[NodeHTTPS, ClusterPKI]:
    kubelet: Any = SimpleNamespace(clock=FakeClock(), client=Nobody())
    pki = ClusterPKI(tmp_path / "pki", datetime.now(UTC))
    config = KubeletConfig(node_name="n", root_dir=str(tmp_path), node_ip="127.0.0.1", port=port)
    return NodeHTTPS(kubelet, config, pki), pki


async def test_strangers_are_refused(tmp_path: Path) -> None:
    port = free_port()
    https, pki = node(tmp_path, port)
    await https.start()
    tls = ssl.create_default_context(cafile=str(pki.crt("ca")))
    headers = {"authorization": "Bearer x"}
    async with aiohttp.ClientSession() as http:
        for given in ({}, headers):
            url = f"https://127.0.0.1:{port}/metrics"
            async with http.get(url, ssl=tls, headers=given) as answer:
                assert answer.status == 401
    await https.stop()
    assert https.health() is None


async def test_a_taken_port_is_told_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        https, _ = node(tmp_path, port)
        await https.start()
        await https.stop()
    assert f"n: nothing listens on 127.0.0.1:{port}: " in caplog.text
