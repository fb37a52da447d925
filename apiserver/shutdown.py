"""How an API server stops without anybody noticing, and what it says about itself meanwhile.

Told to stop: /readyz fails first, so that load balancers look elsewhere, while everything is
still served for --shutdown-delay-duration. Then no new connection is taken (or, with
--shutdown-send-retry-after, new requests are sent to another server), what is in flight is
finished, connections are told to close, watches end as if their time were up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.root import Check, HealthChecks
    from pilothouse.apiserver.server import APIServer
    from pilothouse.componentbase.serving.interfaces import HTTPRequest

log = logging.getLogger(__name__)

STREAM_GRACE = 2.0
"""Seconds that lists which are being sent get after everything else is done."""
_EXEMPT = (b"/readyz", b"/livez", b"/healthz", b"/metrics")
HOOKS = (
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "peer-endpoint-reconciler-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "storage-readiness",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "apiservice-openapiv3-controller",
)
"""Upstream's post-start hooks. Ours run in one go, so they are finished together."""
_FAIRNESS = "priority-and-fairness-"


class Drain:
    """Counts requests in flight; what happens to new ones once the server is leaving."""

    def __init__(self, *, send_retry_after: bool) -> None:
        self.in_flight = 0
        self.refusing = False
        self._send_retry_after = send_retry_after
        self._empty = asyncio.Event()

    def begin_refusing(self) -> None:
        self.refusing = self._send_retry_after

    def refusal(self, request: HTTPRequest) -> Response | None:
        """The answer to a new request while ``refusing``; None: it is answered as always."""
        if request.target.startswith(_EXEMPT):
            return None
        return Response(
            429,
            b"The apiserver is shutting down, please try again later.\n",
            "text/plain; charset=utf-8",
            [("X-Content-Type-Options", "nosniff"), ("Retry-After", "5")],
        )

    def left(self) -> None:
        """A request has been answered."""
        self.in_flight -= 1
        if not self.in_flight:
            self._empty.set()

    async def wait_empty(self, timeout: float) -> bool:
        """Whether all requests in flight have been answered within ``timeout``."""
        while self.in_flight:
            self._empty.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._empty.wait()
            except TimeoutError:
                return False
        return True


async def shut_down(server: APIServer) -> None:
    """Everything up to ``server.stop()``, which ends it."""
    config = server.config
    server.stopping = True
    log.info("shutting down: readyz fails from now on")
    if server.kubernetes_service is not None:
        await server.kubernetes_service.leave()
    if config.shutdown_delay_duration:
        await server.clock.sleep(config.shutdown_delay_duration)
    http, drain = server._http, server.drain
    if http is not None:
        http.draining = True
        drain.begin_refusing()
        if not drain.refusing:
            http.stop_listening()
    if not await drain.wait_empty(config.request_timeout):
        log.warning("%d requests are cut: they took too long", drain.in_flight)
    await server.stop(STREAM_GRACE)


def install_checks(server: APIServer, health: dict[str, HealthChecks]) -> None:
    """The checks of a kube-apiserver beside ping, log and etcd, in its order."""

    async def hook_finished() -> str | None:
        return None if server.ready or server.stopping else "not finished"

    async def informers_synced() -> str | None:
        started = server.listers.starting
        return f"{started} informers not started yet" if started else None

    async def not_stopping() -> str | None:
        return "process is shutting down" if server.stopping else None

    async def registered() -> str | None:
        if server.aggregator is None:
            return "not finished"
        missing = server.aggregator.unregistered()
        return f"missing APIService: {missing}" if missing else None

    async def loopback_certificate() -> None:
        """In-process callers need none."""

    readyz = health["readyz"].checks
    for endpoint in ("livez", "healthz"):
        checks = health[endpoint]
        etcd = checks.checks.pop("etcd")
        checks.checks["loopback-serving-certificate"] = loopback_certificate
        checks.checks["etcd"] = etcd
    readyz["etcd-readiness"] = readyz["etcd"]
    readyz["informer-sync"] = informers_synced
    for name in HOOKS:
        if name.startswith(_FAIRNESS) and server.flow_control is None:
            continue
        for checks in health.values():
            checks.checks[f"poststarthook/{name}"] = hook_finished
            if name == "kube-apiserver-autoregistration":
                checks.checks["autoregister-completion"] = registered
    readyz["shutdown"] = not_stopping


def keep_last(health: dict[str, HealthChecks], name: str, check: Check) -> None:
    """Adds a check of all endpoints in front of readyz' shutdown, which is the last one."""
    for endpoint, checks in health.items():
        checks.checks[name] = check
        if endpoint == "readyz":
            checks.checks["shutdown"] = checks.checks.pop("shutdown")
