"""A span for each request (endpoints/filters/traces.go); absent without --tracing-config-file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.trace_context import CURRENT

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response
    from pilothouse.apiserver.tracing import Tracing

_STATUS = "http.response.status_code"


def with_tracing(server: Server, handler: Handler) -> Handler:
    tracing: Tracing | None = server.services.get("tracing")
    if tracing is None:
        return handler

    async def traced(request: Request) -> Response:
        active = tracing.begin(request)
        # No token: the first step of a GET runs in another context than the rest of it.
        CURRENT.set(active)
        try:
            response = await handler(request)
            active.set(_STATUS, 101 if response.hijacked else response.status)
            return response
        except StatusError as error:
            active.set(_STATUS, error.code)
            raise
        except BaseException as error:
            active.failed(error)
            raise
        finally:
            active.end()
            CURRENT.set(None)

    return traced
