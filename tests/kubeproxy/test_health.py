"""Health checks over real sockets on loopback; the ports asked for are mapped to free ones."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubeproxy.health import HEALTH_PORT, STATUS_PORT, HealthServers, ServiceHealth
from pilothouse.kubeproxy.metrics import ProxyMetrics

TAKEN = 31999


class World:
    def __init__(self) -> None:
        self.problem: str | None = None
        self.clock = FakeClock()
        self.sockets: dict[int, socket.socket] = {}
        self.eligible = True
        self.servers = HealthServers(
            self.open, self.clock, lambda: self.problem, ProxyMetrics(self.clock),
            lambda: self.eligible,
        )  # fmt: skip

    def open(self, host: str, port: int) -> socket.socket:
        if port == TAKEN:
            raise OSError("address already in use")
        made = socket.create_server(("127.0.0.1", 0))
        made.setblocking(False)
        self.sockets[port] = made
        return made

    async def get(self, port: int, path: str) -> tuple[int, bytes, str]:
        address = self.sockets[port].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body, head.decode()


async def test_services_with_and_without_local_endpoints() -> None:
    world = World()
    await world.servers.update(
        {30001: ServiceHealth("n", "s", 2), TAKEN: ServiceHealth("n", "t", 1)}
    )
    code, body, head = await world.get(30001, "/any")
    assert code == 200
    assert json.loads(body) == {
        "service": {"namespace": "n", "name": "s"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert "X-Load-Balancing-Endpoint-Weight: 2" in head
    await world.servers.update({30001: ServiceHealth("n", "s", 0)})
    assert (await world.get(30001, "/"))[0] == 503
    await world.servers.update({30001: ServiceHealth("n", "s", 1)})
    world.problem = "rules can't be written"
    code, body, _ = await world.get(30001, "/")
    assert (code, json.loads(body)["serviceProxyHealthy"]) == (503, False)
    await world.servers.update({})
    with pytest.raises(OSError):
        await world.get(30001, "/")


async def test_the_proxys_own_health_and_mode() -> None:
    world = World()
    await world.servers.start()
    try:
        await _check_own(world)
    finally:
        await world.servers.stop()


async def _check_own(world: World) -> None:
    code, body, head = await world.get(HEALTH_PORT, "/healthz?verbose")
    stamps: dict[str, Any] = json.loads(body)
    assert head.startswith("HTTP/1.1 200 OK")
    assert stamps["nodeEligible"] is True
    assert stamps["lastUpdated"] == stamps["currentTime"]
    world.eligible = False
    code, body, _ = await world.get(HEALTH_PORT, "/healthz")
    assert (code, json.loads(body)["nodeEligible"]) == (503, False)
    assert (await world.get(HEALTH_PORT, "/livez"))[0] == 200
    code, body, _ = await world.get(STATUS_PORT, "/metrics")
    assert code == 200
    assert b'kubeproxy_proxy_healthz_total{code="503"} 1' in body
    world.problem = "rules can't be written"
    world.clock.advance(60)
    code, body, _ = await world.get(HEALTH_PORT, "/livez")
    later = json.loads(body)
    assert code == 503
    assert later["lastUpdated"] == stamps["lastUpdated"] != later["currentTime"]
    assert (await world.get(STATUS_PORT, "/proxyMode"))[:2] == (200, b"iptables")
    assert (await world.get(STATUS_PORT, "/x"))[0] == 404
    assert (await world.get(HEALTH_PORT, "/x"))[0] == 404
