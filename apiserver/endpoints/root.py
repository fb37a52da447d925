"""Paths that name no resource: /version, health checks, /metrics, /flagz, the index, OIDC.

All are answered here, without a framework, so that a server is Ready before one is loaded. The
FastAPI application (``application.py``) has /docs and gets whatever else no route knows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilothouse.apiserver.endpoints.negotiation import JSON, check_offered, method_not_allowed
from pilothouse.apiserver.endpoints.responses import dump
from pilothouse.apiserver.request.context import Response
from pilothouse.componentbase.version import version_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apiserver.endpoints.handler import APIHandler, Server
    from pilothouse.apiserver.request.context import Request
    from pilothouse.componentbase.metrics import Registry

    Check = Callable[[], Awaitable[str | None]]

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
_NOSNIFF = (("X-Content-Type-Options", "nosniff"),)


class HealthChecks:
    """Named checks of one endpoint (healthz, livez, readyz). A check returns what is wrong."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.checks: dict[str, Check] = {}
        self.results: dict[str, bool] = {}
        self.counts: dict[tuple[str, ...], int] = {}
        """By (check, endpoint, success or error)."""

    async def handle(self, request: Request) -> Response:
        single = request.path.rstrip("/").removeprefix(f"/{self.endpoint}").strip("/")
        if single:
            return await self._one(single)
        excluded = set(request.query.get("exclude", ()))
        lines = []
        failures = {}
        for name, check in self.checks.items():
            if name in excluded:
                excluded.discard(name)
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = await self._run(name, check)
            if problem is None:
                lines.append(f"[+]{name} ok")
            else:
                # Anybody may ask: details are for the log and for the single check.
                failures[name] = problem
                lines.append(f"[-]{name} failed: reason withheld")
        if excluded:
            names = ", ".join(f'"{name}"' for name in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        if failures:
            log.info("%s check failed: %s: %s", ",".join(failures), self.endpoint, failures)
            text = "\n".join([*lines, f"{self.endpoint} check failed", ""])
            return Response(500, text.encode(), TEXT, list(_NOSNIFF))
        if "verbose" not in request.query:
            return Response(200, b"ok", TEXT, list(_NOSNIFF))
        text = "\n".join([*lines, f"{self.endpoint} check passed", ""])
        return Response(200, text.encode(), TEXT, list(_NOSNIFF))

    async def run(self) -> None:
        """Every check once, as if somebody had asked: /metrics/slis tells the results."""
        for name, check in self.checks.items():
            await self._run(name, check)

    async def _one(self, name: str) -> Response:
        """/readyz/etcd and the like: the check's own words."""
        check = self.checks.get(name)
        if check is None:
            return Response(404, b"404 page not found\n", TEXT, list(_NOSNIFF))
        problem = await self._run(name, check)
        if problem is None:
            return Response(200, b"ok", TEXT)
        text = f"internal server error: {problem}\n"
        return Response(500, text.encode(), TEXT, list(_NOSNIFF))

    async def _run(self, name: str, check: Check) -> str | None:
        problem = await check()
        passed = problem is None
        self.results[name] = passed
        key = (name, self.endpoint, "success" if passed else "error")
        self.counts[key] = self.counts.get(key, 0) + 1
        return problem


def slis(health: dict[str, HealthChecks], registry: Registry) -> None:
    """/metrics/slis: how the checks went (component-base metrics/prometheus/slis)."""
    from pilothouse.componentbase.metrics import Collected

    def results() -> list[tuple[tuple[str, ...], float]]:
        return [
            ((name, each.endpoint), float(passed))
            for each in health.values()
            for name, passed in each.results.items()
        ]

    def counts() -> list[tuple[tuple[str, ...], float]]:
        return [
            (key, float(count)) for each in health.values() for key, count in each.counts.items()
        ]

    registry.add(
        Collected(
            "kubernetes_healthcheck",
            "[STABLE] This metric records the result of a single healthcheck.",
            "gauge",
            ("name", "type"),
            results,
        ),
        Collected(
            "kubernetes_healthchecks_total",
            "[STABLE] This metric records the results of all healthcheck.",
            "counter",
            ("name", "type", "status"),
            counts,
        ),
    )


_UNLISTED = frozenset(("/", "/index.html"))


def _check(request: Request, offered: str) -> None:
    """What upstream's router does. :raises StatusError: 405, 406."""
    if request.local:
        return
    if request.method != "GET":
        raise method_not_allowed()
    check_offered(request.headers.get("accept", ""), (offered,))


def _paths(server: Server, api: APIHandler, health: dict[str, HealthChecks]) -> list[str]:
    """All paths that somebody answers: upstream's router knows them one by one."""
    paths = set(api.routes) - _UNLISTED | {"/apis/", "/openapi/v3/"}
    for name, checks in health.items():
        paths.update(f"/{name}/{check}" for check in checks.checks)
    for served in server.registry.all():
        row = served.resource
        base = f"/apis/{row.group}" if row.group else "/api"
        paths.update((base, f"{base}/{row.version}"))
    return sorted(paths)


def install(server: Server, api: APIHandler, metrics: Registry) -> dict[str, HealthChecks]:
    """Adds the routes and returns the health end-points by name."""
    health = {name: HealthChecks(name) for name in ("healthz", "livez", "readyz")}
    for name, checks in health.items():
        api.routes[f"/{name}"] = checks.handle
        api.prefixes.append((f"/{name}/", checks.handle))

    indicators: Registry = server.services["metrics"].slis
    slis(health, indicators)

    async def ping() -> None:
        return None

    async def store() -> str | None:
        try:
            await server.storage.current_revision()
        except Exception as error:
            return f"etcd failed: {error}"
        return None

    for checks in health.values():
        checks.checks["ping"] = ping
        checks.checks["log"] = ping
        checks.checks["etcd"] = store

    async def version(request: Request) -> Response:
        _check(request, JSON)
        return dump(version_info(), pretty=True)

    async def prometheus(request: Request) -> Response:
        from pilothouse.componentbase.metrics import exposition

        shown = indicators if request.path.rstrip("/").endswith("/slis") else metrics
        body, content_type = exposition(shown, request.headers.get("accept", ""))
        return Response(body=body, content_type=content_type)

    async def zpage(request: Request) -> Response:
        from pilothouse.apiserver.endpoints import zpages

        if request.path.rstrip("/") == "/flagz":
            return zpages.flagz(request, server.config)
        return zpages.statusz(request, server.clock.now())

    async def index(request: Request) -> Response:
        return dump({"paths": _paths(server, api, health)}, pretty=True)

    api.routes["/version"] = version
    api.routes["/flagz"] = api.routes["/statusz"] = zpage
    api.routes["/metrics"] = prometheus
    api.routes["/metrics/slis"] = prometheus
    api.routes["/"] = api.routes["/index.html"] = index
    return health


def install_oidc(server: Server, api: APIHandler, address: Callable[[], str]) -> None:
    """/.well-known/openid-configuration and /openid/v1/jwks; ``address`` gives the host and port
    that clients reach this server at, empty while it does not listen."""
    from pilothouse.apiserver.authentication import discovery

    authenticator = server.services["authenticator"]
    config = server.config
    headers = [("Cache-Control", discovery.CACHE_CONTROL)]

    async def configuration(request: Request) -> Response:
        _check(request, JSON)
        host, _, port = address().rpartition(":")
        host = config.external_hostname or host or config.bind_address
        answer = dump(
            discovery.openid_configuration(
                authenticator.keys,
                authenticator.issuers[0],
                jwks_uri=config.service_account_jwks_uri,
                external_address=f"{host}:{port or config.secure_port}",
            )
        )
        answer.headers += headers
        return answer

    async def keys(request: Request) -> Response:
        _check(request, discovery.JWKS_CONTENT_TYPE)
        answer = dump(discovery.jwks(authenticator.keys))
        answer.content_type = discovery.JWKS_CONTENT_TYPE
        answer.headers += headers
        return answer

    api.routes[discovery.CONFIGURATION_PATH] = configuration
    api.routes[discovery.JWKS_PATH] = keys
