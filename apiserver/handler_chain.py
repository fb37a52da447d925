"""THE ordered list: what a request passes on its way in, and the HTTP edge in front of it.

Outermost first. In-process callers (``local.py``) start at ``APIHandler.handle``: they have a
user already, and errors reach them as exceptions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import (
    StatusError,
    new_request_entity_too_large,
    new_unauthorized,
)
from pilothouse.apiserver.endpoints.responses import error_response
from pilothouse.apiserver.filters.audit import record_refused, with_audit
from pilothouse.apiserver.filters.authentication import with_authentication
from pilothouse.apiserver.filters.authorization import ANONYMOUS, attributes_of, check_remotely
from pilothouse.apiserver.filters.compression import accepts_gzip, compress
from pilothouse.apiserver.filters.deadline import is_long_running, with_deadline
from pilothouse.apiserver.filters.impersonation import with_impersonation
from pilothouse.apiserver.filters.max_in_flight import with_max_in_flight
from pilothouse.apiserver.filters.panic import with_panic_recovery
from pilothouse.apiserver.filters.priority_and_fairness import with_priority_and_fairness
from pilothouse.apiserver.filters.response_headers import with_response_headers
from pilothouse.apiserver.filters.tracing import with_tracing
from pilothouse.apiserver.request.context import Request, Response
from pilothouse.apiserver.request.info import (
    NO_QUERY,
    RequestInfo,
    parse_query,
    parse_request_info,
    parse_target,
)

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import APIHandler, Server
    from pilothouse.apiserver.metrics import APIServerMetrics, RequestSeries
    from pilothouse.apiserver.request.context import Query
    from pilothouse.apiserver.shutdown import Drain
    from pilothouse.componentbase.serving.interfaces import HTTPRequest

Handler = Callable[[Request], Awaitable[Response]]
Filter = Callable[["Server", Handler], Handler]

FILTERS: tuple[Filter, ...] = (
    # Audit-Id, Cache-Control and Warning headers, on refusals too.
    with_response_headers,
    # Nothing escapes: StatusError is answered, anything else is a logged 500.
    with_panic_recovery,
    # Before anything that may wait.
    with_deadline,
    # From here on there is a user.
    with_authentication,
    # Knows the user: only the privileged may continue a trace.
    with_tracing,
    # Whoever it is; refusals from here on are recorded, too.
    with_audit,
    # After this the user may be somebody else.
    with_impersonation,
    # Counts only who is known, so that strangers can't fill the server up with 401s.
    with_max_in_flight,
    # Or, by default, shares the server out among flows; then the one above is not there.
    with_priority_and_fairness,
    # APIHandler.handle: authorization, then the verb.
)
"""Request info comes before all of them: :class:`HTTPEdge` makes it of method and target."""

MAX_BODY = 3 * 1024 * 1024
_MAX_PROXY_BODY = 256 * 1024 * 1024
_INFO_CACHE = 4096
_BODY_VERBS = {verb: verb for verb in ("create", "update", "patch", "delete")} | {
    "deletecollection": "delete_collection"
}


def build_chain(server: Server, api: APIHandler) -> Handler:
    handler: Handler = api.handle
    for with_filter in reversed(FILTERS):
        handler = with_filter(server, handler)
    return handler


class HTTPEdge:
    """The :class:`~pilothouse.componentbase.serving.interfaces.HTTPHandler` of the API server."""

    def __init__(self, server: Server, api: APIHandler) -> None:
        self._chain = build_chain(server, api)
        self._activity = server.activity
        self._server = server
        self._api = api
        self._compression = server.config.response_compression
        self._drain: Drain = server.services["drain"]
        self._metrics: APIServerMetrics = server.services["metrics"]
        self._infos: dict[tuple[str, bytes], tuple[RequestInfo, RequestSeries | None]] = {}
        """Of targets without a query: the same few are asked for again and again."""

    async def handle(self, request: HTTPRequest) -> Response:
        start = perf_counter()
        drain = self._drain
        if drain.refusing and (refusal := drain.refusal(request)) is not None:
            return refusal
        try:
            inner, series = self._request(request)
        except StatusError as error:
            return error_response(error)
        if is_long_running(inner.info):
            return await self._long_running(inner, series, request)
        activity = self._activity
        activity.begin("request")
        drain.in_flight += 1
        try:
            response = await self._chain(inner)
        finally:
            activity.end("request")
            drain.left()
        above = response.gzip_above
        if (
            above is not None
            and (response.chunks is not None or len(response.body) > above)
            and self._compression
            and accepts_gzip(request.headers.get("accept-encoding", ""))
        ):
            await compress(response, above)
        # What is measured costs less than a microsecond (hack/bench/metrics_cost.py).
        user = inner.impersonator or inner.user
        metrics = self._metrics
        if user is None:
            metrics.authentication_failures[0] += 1
            return response
        if user.name in metrics.users:
            metrics.users[user.name] += 1
        else:
            metrics.count_user(user.name)
        status = response.status
        if request.body and series is not metrics.unknown:  # names of any sort would stay
            self._took(inner.info, len(request.body))
        if status >= 400:
            self._refused(inner, status, series)
        series.record(status, perf_counter() - start, len(response.body))
        return response

    async def _long_running(
        self, inner: Request, series: RequestSeries, request: HTTPRequest
    ) -> Response:
        """Watches, logs, exec: counted when they begin, a gauge while they last."""
        start = perf_counter()
        series.long_running += 1
        try:
            response = await self._chain(inner)
        finally:
            series.long_running -= 1
        user = inner.impersonator or inner.user
        if user is None:
            self._metrics.authentication_failures[0] += 1
            return response
        self._metrics.count_user(user.name)
        request.connection["series"] = series
        if response.status >= 400:
            self._refused(inner, response.status, series)
        series.record(response.status, perf_counter() - start, len(response.body))
        return response

    def _took(self, info: RequestInfo, size: int) -> None:
        """How big the bodies of writes are."""
        verb = _BODY_VERBS.get(info.verb)
        if verb is not None and info.is_resource_request and not info.subresource:
            sizes = self._metrics.filters.body_sizes
            sizes.observe(size, info.resource, verb, info.api_group)

    def _refused(self, request: Request, status: int, series: RequestSeries) -> None:
        if status == 403:
            self._metrics.forbidden[0] += 1
        elif status in (429, 504):
            labels = series.labels
            self._metrics.terminations.inc(labels[0], *labels[2:], "apiserver", str(status))

    def _series(self, method: str, info: RequestInfo, request: HTTPRequest, query: Query) -> Any:
        content_type = request.headers.get("content-type", "") if method == "PATCH" else ""
        return self._metrics.series_for(
            method, info, query, content_type, self._server.registry, self._api
        )

    def _request(self, request: HTTPRequest) -> tuple[Request, RequestSeries]:
        target = request.target
        raw_query = ""
        query = NO_QUERY
        method = request.method
        series = None
        if b"?" in target:
            path, raw_query = parse_target(target)
            query = parse_query(raw_query)
            info = parse_request_info(method, path, query)
        else:
            key = (method, target)
            found = self._infos.get(key)
            if found is None:
                path, _ = parse_target(target)
                info = parse_request_info(method, path)
                if method != "PATCH":
                    series = self._series(method, info, request, query)
                if len(self._infos) >= _INFO_CACHE:
                    self._infos.clear()
                known = series if series is not self._metrics.unknown else None
                self._infos[key] = (info, known)
            else:
                info, series = found
            path = info.path
        if series is None:
            series = self._series(method, info, request, query)
        made = Request(
            method,
            path,
            query,
            request.headers,
            info,
            body=request.body,
            upgrade=request.upgrade,
            disconnected=request.disconnected,
            raw_query=raw_query,
            peer_der=request.peer_der,
            connection=request,
        )
        return made, series

    async def admit(self, request: HTTPRequest) -> Response | None:
        """Whether the big body of a request that is passed on may be taken in: not from those who
        would be refused after it. The chain asks once more."""
        server = self._server
        try:
            inner, _ = self._request(request)
            authenticator = server.services["authenticator"]
            inner.user = await authenticator.authenticate(inner.headers, inner.peer_der)
            if inner.user is None:
                raise new_unauthorized()
            if inner.user.name == ANONYMOUS or "impersonate-user" not in inner.headers:
                await check_remotely(server.authorizer, attributes_of(inner))
        except StatusError as error:
            return error_response(error)
        return None

    async def refused(self, request: HTTPRequest, response: Response) -> None:
        """A body was not taken in: the audit log is to know."""
        server = self._server
        if "audit" not in server.services:
            return
        try:
            inner, _ = self._request(request)
        except StatusError:
            return
        await record_refused(server, inner, response)

    def body_limit(self, method: str, target: bytes) -> int:
        """Upstream does not read what it only passes on; we buffer it, up to a bound."""
        return _MAX_PROXY_BODY if b"/proxy" in target else MAX_BODY

    def too_large(self, method: str, target: bytes) -> Response:
        return error_response(new_request_entity_too_large(f"limit is {MAX_BODY}"))
