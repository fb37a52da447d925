"""Who asks? Sets ``request.user`` and takes the credentials out of the headers."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, new_unauthorized
from pilothouse.apiserver.authentication.users import ANONYMOUS
from pilothouse.apiserver.filters.audit import record_failed_authentication
from pilothouse.apiserver.metrics_filters import observe
from pilothouse.componentbase.histograms import FOLD

if TYPE_CHECKING:
    from pilothouse.apiserver.authentication.interfaces import Authenticator
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response


def with_authentication(server: Server, handler: Handler) -> Handler:
    authenticator: Authenticator = server.services["authenticator"]
    anonymous_paths: frozenset[str] | None = getattr(authenticator, "anonymous_paths", None)

    measured = server.services["metrics"].filters
    series = measured.authenticated
    pending = series.pending

    async def authenticated(request: Request) -> Response:
        headers = request.headers
        start = perf_counter()
        try:
            user = await authenticator.authenticate(headers, request.peer_der)
            if user is None or (
                anonymous_paths is not None
                and user is ANONYMOUS
                and request.path not in anonymous_paths
            ):
                raise new_unauthorized()
        except StatusError:
            observe(measured.unauthenticated, perf_counter() - start)
            record_failed_authentication(server, request)
            raise
        pending.append(perf_counter() - start)
        if len(pending) >= FOLD:
            series.fold()
        request.user = user
        # Proxied requests must not carry them on.
        headers.pop("authorization", None)
        return await handler(request)

    return authenticated
