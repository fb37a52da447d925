"""Paths that name no resource: /version, health checks, /metrics, the index, OIDC discovery.

All are answered here, without a framework, so that a server is Ready before one is loaded. The
FastAPI application (``application.py``) has /docs and gets whatever else no route knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.endpoints.responses import dump
from pilothouse.apiserver.request.context import Response
from pilothouse.componentbase.version import version_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apiserver.endpoints.handler import APIHandler, Server
    from pilothouse.apiserver.request.context import Request
    from pilothouse.componentbase.metrics import Registry

    Check = Callable[[], Awaitable[str | None]]

TEXT = "text/plain; charset=utf-8"


class HealthChecks:
    """Named checks of one endpoint (healthz, livez, readyz). A check returns what is wrong."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.checks: dict[str, Check] = {}

    async def handle(self, request: Request) -> Response:
        excluded = set(request.query.get("exclude", ()))
        single = request.path.rstrip("/").removeprefix(f"/{self.endpoint}").strip("/")
        if single and single not in self.checks:
            return Response(404, b"404 page not found\n", TEXT)
        lines = []
        failed = []
        for name, check in self.checks.items():
            if name in excluded:
                excluded.discard(name)
                lines.append(f"[+]{name} excluded: ok")
                continue
            if single and name != single:
                continue
            problem = await check()
            if problem is None:
                lines.append(f"[+]{name} ok")
            else:
                failed.append(name)
                lines.append(f"[-]{name} failed: {problem}")
        if excluded:
            names = ", ".join(f'"{name}"' for name in sorted(excluded))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        headers = [("X-Content-Type-Options", "nosniff")]
        if failed:
            text = "\n".join([*lines, f"{self.endpoint} check failed", ""])
            return Response(500, text.encode(), TEXT, headers)
        if single or "verbose" not in request.query:
            return Response(200, b"ok", TEXT, headers)
        text = "\n".join([*lines, f"{self.endpoint} check passed", ""])
        return Response(200, text.encode(), TEXT, headers)


def install(server: Server, api: APIHandler, metrics: Registry) -> dict[str, HealthChecks]:
    """Adds the routes and returns the health end-points by name."""
    health = {name: HealthChecks(name) for name in ("healthz", "livez", "readyz")}
    for name, checks in health.items():
        api.routes[f"/{name}"] = checks.handle
        api.prefixes.append((f"/{name}/", checks.handle))

    async def ping() -> None:
        return None

    async def store() -> str | None:
        try:
            await server.storage.current_revision()
        except Exception as error:
            return f"reason withheld: {type(error).__name__}"
        return None

    for checks in health.values():
        checks.checks["ping"] = ping
        checks.checks["log"] = ping
        checks.checks["etcd"] = store

    async def version(request: Request) -> Response:
        return dump(version_info(), pretty=True)

    async def prometheus(request: Request) -> Response:
        from pilothouse.componentbase.metrics import CONTENT_TYPE

        return Response(body=metrics.text().encode(), content_type=CONTENT_TYPE)

    async def index(request: Request) -> Response:
        paths = set(api.routes)
        paths.update(prefix.rstrip("/") for prefix, _ in api.prefixes if prefix != "/")
        return dump({"paths": sorted(paths)}, pretty=True)

    api.routes["/version"] = version
    api.routes["/metrics"] = prometheus
    api.routes["/"] = index
    return health


def install_oidc(server: Server, api: APIHandler, address: Callable[[], str]) -> None:
    """/.well-known/openid-configuration and /openid/v1/jwks; ``address`` gives the host and port
    that clients reach this server at, empty while it does not listen."""
    from pilothouse.apiserver.authentication import discovery

    authenticator = server.services["authenticator"]
    config = server.config
    headers = [("Cache-Control", discovery.CACHE_CONTROL)]

    async def configuration(request: Request) -> Response:
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
        answer = dump(discovery.jwks(authenticator.keys))
        answer.content_type = discovery.JWKS_CONTENT_TYPE
        answer.headers += headers
        return answer

    api.routes[discovery.CONFIGURATION_PATH] = configuration
    api.routes[discovery.JWKS_PATH] = keys
