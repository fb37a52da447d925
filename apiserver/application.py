"""The FastAPI application: pages for people (/docs) about what the server offers beside its API.

Resource paths never come here, and neither do health checks, which are answered before this
module is loaded. Importing FastAPI takes a third of a second: it happens in a worker thread, on
the first request that needs it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.endpoints.responses import dump
from pilothouse.componentbase.serving.asgi import ASGIBridge
from pilothouse.componentbase.version import GIT_VERSION, version_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apiserver.endpoints.root import HealthChecks
    from pilothouse.apiserver.request.context import Request, Response
    from pilothouse.componentbase.metrics import Registry
    from pilothouse.componentbase.tasks import TaskOwner

PATHS = ("/docs", "/redoc", "/openapi.json")


def build_application(health: dict[str, HealthChecks], metrics: Registry) -> Any:
    """FastAPI with the non-resource end-points as documented routes."""
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI(
        title="Pilothouse API server",
        version=GIT_VERSION,
        description="Non-resource end-points. The Kubernetes API itself is described by "
        "/openapi/v3 and by kubectl explain.",
    )

    @app.get("/version", summary="The version that is served")
    async def version() -> dict[str, Any]:
        return version_info()

    for name, checks in health.items():
        app.get(
            f"/{name}",
            summary=f"Health check {name}",
            name=name,
            response_class=PlainTextResponse,
        )(_check_route(checks))

    @app.get(
        "/metrics",
        summary="Metrics in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def prometheus() -> str:
        return metrics.text()

    return app


def _check_route(checks: HealthChecks) -> Callable[[], Awaitable[str]]:
    async def check() -> str:
        failed = [name for name, one in checks.checks.items() if await one() is not None]
        return "ok" if not failed else "\n".join(f"[-]{name} failed" for name in failed)

    return check


class LazyApplication:
    """Answers a request with the application, which is built when it is first needed."""

    def __init__(
        self, health: dict[str, HealthChecks], metrics: Registry, tasks: TaskOwner
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._tasks = tasks
        self._bridge: ASGIBridge | None = None

    async def handle(self, request: Request) -> Response:
        if request.connection is None:
            return dump({"paths": list(PATHS)})
        if self._bridge is None:
            app = await asyncio.to_thread(build_application, self._health, self._metrics)
            self._bridge = ASGIBridge(app, self._tasks)
        return await self._bridge(request.connection)  # type: ignore[return-value]
