"""What load balancers and monitors ask a node's proxy: health of Services, and its own.

A Service with a healthCheckNodePort gets a server of its own that says whether this node has a
ready endpoint of it. ``/healthz`` (10256), ``/proxyMode`` and ``/metrics`` (10249, this machine
only) are the proxy's own. The proxier tells after each turn what there is
(:meth:`HealthServers.update`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.componentbase.metrics import exposition
from pilothouse.kubeproxy.metrics import ProxyMetrics

log = logging.getLogger(__name__)
HEALTH_PORT, STATUS_PORT = 10256, 10249
REQUEST_SECONDS = 10.0
OpenSocket = Callable[[str, int], socket.socket]
"""(address, port) -> a listening socket in the node's network namespace."""
Answer = tuple[int, str, bytes, dict[str, str]]
"""Status, content type, body, more headers."""


class ServiceHealth(NamedTuple):
    namespace: str
    name: str
    local_endpoints: int


class HealthServers:
    def __init__(
        self,
        open_socket: OpenSocket,
        clock: Clock,
        problem: Callable[[], str | None],
        metrics: ProxyMetrics | None = None,
        eligible: Callable[[], bool] = lambda: True,
    ) -> None:
        """``eligible``: whether load balancers may still send to this node."""
        self._metrics = metrics
        self._eligible = eligible
        self._open = open_socket
        self._clock = clock
        self._problem = problem
        self._servers: dict[int, asyncio.Server] = {}
        self._services: dict[int, ServiceHealth] = {}
        self._updated = clock.now()

    async def start(self) -> None:
        """Ports that somebody else has are left to them, with a warning."""
        await self._serve("0.0.0.0", HEALTH_PORT, self._own_health)
        await self._serve("127.0.0.1", STATUS_PORT, self._own_status)

    async def update(self, services: Mapping[int, ServiceHealth]) -> None:
        """These Services by port, and no others, are served from now on."""
        self._updated = self._clock.now()
        gone = self._services.keys() - services.keys()
        new = services.keys() - self._services.keys()
        self._services = dict(services)
        for port in gone:
            self._close(port)
        for port in new:
            await self._serve("0.0.0.0", port, partial(self._of_service, port))

    async def stop(self) -> None:
        for port in list(self._servers):
            self._close(port)

    def _close(self, port: int) -> None:
        server = self._servers.pop(port, None)
        if server is not None:
            server.close()

    async def _serve(self, host: str, port: int, answer: Callable[[str], Answer]) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                    path = words[1].partition("?")[0] if len(words) > 1 else ""
                    writer.write(_response(*answer(path)))
                    await writer.drain()
            except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # they ask again
            finally:
                writer.close()

        try:
            listener = self._open(host, port)
        except OSError as error:
            log.warning("no health checks on port %d: %s", port, error)
            return
        self._servers[port] = await asyncio.start_server(connected, sock=listener)

    # -- answers -------------------------------------------------------------------------

    def _of_service(self, port: int, path: str) -> Answer:
        health = self._services.get(port) or ServiceHealth("", "", 0)  # just gone
        healthy = self._problem() is None
        code = HTTPStatus.OK if healthy and health.local_endpoints else 503
        body = {
            "service": {"namespace": health.namespace, "name": health.name},
            "localEndpoints": health.local_endpoints,
            "serviceProxyHealthy": healthy,
        }
        weight = {"X-Load-Balancing-Endpoint-Weight": str(health.local_endpoints)}
        return code, "application/json", json.dumps(body, indent="\t").encode(), weight

    def _own_health(self, path: str) -> Answer:
        if path not in ("/healthz", "/livez"):
            return 404, "text/plain; charset=utf-8", b"404 page not found\n", {}
        healthy = self._problem() is None
        now = self._clock.now()
        body: dict[str, object] = {
            "lastUpdated": format_time(now if healthy else self._updated),
            "currentTime": format_time(now),
        }
        if path == "/healthz":
            body["nodeEligible"] = self._eligible()
            healthy = healthy and self._eligible()
        code = 200 if healthy else 503
        if self._metrics is not None:
            counter = self._metrics.healthz if path == "/healthz" else self._metrics.livez
            counter.inc(str(code))
        return code, "application/json", json.dumps(body).encode(), {}

    def _own_status(self, path: str) -> Answer:
        if path == "/metrics" and self._metrics is not None:
            body, kind = exposition(self._metrics.registry(), "")
            return 200, kind, body, {}
        texts = {"/proxyMode": b"iptables", "/healthz": b"ok"}
        if path in texts:
            return 200, "text/plain; charset=utf-8", texts[path], {}
        return 404, "text/plain; charset=utf-8", b"404 page not found\n", {}


def _response(code: int, content_type: str, body: bytes, more: dict[str, str]) -> bytes:
    headers = {
        "Content-Type": content_type, "X-Content-Type-Options": "nosniff",
        "Content-Length": str(len(body)), "Connection": "close", **more,
    }  # fmt: skip
    lines = [f"HTTP/1.1 {code} {HTTPStatus(code).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
