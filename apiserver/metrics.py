"""The API server's own metrics under upstream's names (pkg/endpoints/metrics and others).

The hot path is :meth:`RequestSeries.record`: one call a request, two additions and a bucket. A
series is found once per target and kept beside the target's RequestInfo. Whatever else can be
read off the server (inflight requests, caches, watches, /proc) is collected when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.metrics_filters import FilterMetrics
from pilothouse.componentbase.histograms import FOLD, Series
from pilothouse.componentbase.metrics import (
    Collected,
    CollectedHistogram,
    Counter,
    Histogram,
    Registry,
    build_info,
    exponential_buckets,
    process_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pilothouse.apiserver.endpoints.handler import APIHandler
    from pilothouse.apiserver.registry.resources import ResourceRegistry
    from pilothouse.apiserver.request.context import Query
    from pilothouse.apiserver.request.info import RequestInfo
    from pilothouse.componentbase.metrics import Labels, Metric

COMPONENT = "apiserver"
REQUEST_BUCKETS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
)  # fmt: skip
SLI_BUCKETS = REQUEST_BUCKETS[2:]
SIZE_BUCKETS = exponential_buckets(1000.0, 10.0, 7)
FILTER_BUCKETS = exponential_buckets(0.001, 2.0, 15)
_CONNECT = frozenset(("log", "exec", "portforward", "attach", "proxy"))
_METHODS = frozenset(
    ("APPLY", "CONNECT", "CREATE", "DELETE", "GET", "LIST", "PATCH", "POST", "PUT", "WATCH")
)
_NAMES = ("verb", "group", "version", "resource", "subresource", "scope", "component")
_COUNTED = ("verb", "dry_run", *_NAMES[1:], "code")


class RequestSeries:
    """All numbers of one kind of request: (verb, dry run, group, version, resource, …)."""

    __slots__ = (
        "_pending",
        "_pending_sizes",
        "codes",
        "durations",
        "labels",
        "long_running",
        "sizes",
        "streams",
    )

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        """verb, dry_run, group, version, resource, subresource, scope"""
        self.codes: dict[int, int] = {}
        self.durations = Series(REQUEST_BUCKETS)
        self._pending = self.durations.pending
        self.sizes: Series | None = None
        self._pending_sizes: list[float] | None = None
        if labels[0] in ("GET", "LIST"):
            self.sizes = Series(SIZE_BUCKETS)
            self._pending_sizes = self.sizes.pending
        self.long_running = 0
        """Being answered now by a handler that takes its time."""
        self.streams = 0
        """Pushed by their connections: counted anew whenever they are asked for."""

    def record(self, code: int, seconds: float, size: int) -> None:
        """One request has been answered."""
        try:
            self.codes[code] += 1
        except KeyError:
            self.codes[code] = 1
        pending = self._pending
        pending.append(seconds)
        if self._pending_sizes is not None:
            self._pending_sizes.append(size)
        if len(pending) >= FOLD:
            self.durations.fold()
            if self.sizes is not None:
                self.sizes.fold()


def scope_of(info: RequestInfo) -> str:
    if info.name or info.verb == "create":
        return "resource"
    if info.namespace:
        return "namespace"
    return "cluster" if info.is_resource_request else ""


def reported_verb(method: str, info: RequestInfo, scope: str, content_type: str) -> str:
    """cleanVerb of upstream: a bounded set of upper-case verbs."""
    if info.subresource in _CONNECT and info.is_resource_request:
        return "CONNECT"
    if info.verb == "watch":
        return "WATCH"
    if method in ("GET", "HEAD"):
        return "GET" if scope in ("resource", "") else "LIST"
    if method == "PATCH" and content_type.startswith("application/apply-patch"):
        return "APPLY"
    return method if method in _METHODS else "other"


def dry_run_of(query: Query) -> str:
    values = query.get("dryRun")
    if not values:
        return ""
    return "All" if set(values) == {"All"} else "invalid"


class APIServerMetrics:
    """Where filters and handlers count; ``registry`` is what /metrics shows."""

    def __init__(self) -> None:
        self.registry = Registry(by_name=True)
        self.slis = Registry(by_name=True)
        self._series: dict[Labels, RequestSeries] = {}
        self.unknown = RequestSeries(("other", "", "", "", "", "", ""))
        """Requests for what is not served: nobody may make series at will."""
        self.users: dict[str, int] = {}
        """Authenticated requests by user name, folded into categories when there are many."""
        self.watch_events: dict[Labels, list[int]] = {}
        self.authentication_failures = [0]
        self.forbidden = [0]
        self.filters = FilterMetrics()
        self._add_request_metrics()
        self._add_filter_metrics()
        self.registry.add(*self.filters.all(), *process_metrics())

    # finding series

    def series_for(
        self,
        method: str,
        info: RequestInfo,
        query: Query,
        content_type: str,
        resources: ResourceRegistry,
        api: APIHandler,
    ) -> RequestSeries:
        scope = scope_of(info)
        verb = reported_verb(method, info, scope, content_type)
        if info.is_resource_request:
            what = (info.api_group, info.api_version, info.resource, info.subresource)
        else:
            what = ("", "", "", info.path)
        labels = (verb, dry_run_of(query) if query else "", *what, scope)
        series = self._series.get(labels)
        if series is None:
            if not _is_served(info, resources, api):
                return self.unknown
            series = self._series[labels] = RequestSeries(labels)
        return series

    def watch_counter(self, group: str, version: str, resource: str) -> list[int]:
        """The cell that streams of one resource add their events to."""
        return self.watch_events.setdefault((group, version, resource), [0])

    # what /metrics shows of it

    def _add_request_metrics(self) -> None:
        name = "apiserver_request"
        self.terminations = Counter(
            f"{name}_terminations_total",
            "[ALPHA] Number of requests which apiserver terminated in self-defense.",
            (*_NAMES, "code"),
        )
        self.aborts = Counter(
            f"{name}_aborts_total",
            "[ALPHA] Number of requests which apiserver aborted possibly due to a timeout, for "
            "each group, version, verb, resource, subresource and scope",
            _NAMES[:-1],
        )
        self.registry.add(
            Collected(
                f"{name}_total",
                "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, "
                "group, version, resource, scope, component, and HTTP response code.",
                "counter",
                _COUNTED,
                self._requests,
            ),
            CollectedHistogram(
                f"{name}_duration_seconds",
                "[STABLE] Response latency distribution in seconds for each verb, dry run value, "
                "group, version, resource, subresource, scope and component.",
                _COUNTED[:-1],
                self._durations,
            ),
            CollectedHistogram(
                f"{name}_sli_duration_seconds",
                "[ALPHA] Response latency distribution (not counting webhook duration and "
                "priority & fairness queue wait times) in seconds for each verb, group, version, "
                "resource, subresource, scope and component.",
                _NAMES,
                self._sli_durations,
            ),
            CollectedHistogram(
                "apiserver_response_sizes",
                "[STABLE] Response size distribution in bytes for each group, version, verb, "
                "resource, subresource, scope and component.",
                _NAMES,
                self._sizes,
            ),
            Collected(
                "apiserver_watch_events_total",
                "[BETA] Number of events sent in watch clients",
                "counter",
                ("group", "version", "resource"),
                lambda: [(key, float(cell[0])) for key, cell in self.watch_events.items()],
            ),
            self.terminations,
            self.aborts,
        )

    def all(self) -> Iterator[RequestSeries]:
        return iter(list(self._series.values()))

    def _requests(self) -> Iterator[tuple[Labels, float]]:
        for series in self.all():
            for code, count in series.codes.items():
                yield (*series.labels, COMPONENT, str(code)), float(count)

    def _durations(self) -> Iterator[tuple[Labels, Series]]:
        for series in self.all():
            yield (*series.labels, COMPONENT), series.durations

    def _sli_durations(self) -> Iterator[tuple[Labels, Series]]:
        for series in self.all():
            labels = series.labels
            if labels[1]:  # dry runs are no part of the indicator
                continue
            yield (labels[0], *labels[2:], COMPONENT), series.durations.rebucketed(SLI_BUCKETS)

    def _sizes(self) -> Iterator[tuple[Labels, Series]]:
        for series in self.all():
            if series.sizes is not None and not series.labels[1]:
                yield (series.labels[0], *series.labels[2:], COMPONENT), series.sizes

    def _add_filter_metrics(self) -> None:
        self.registry.add(
            Collected(
                "authenticated_user_requests",
                "[ALPHA] Counter of authenticated requests broken out by username.",
                "counter",
                ("username",),
                lambda: [((name,), float(count)) for name, count in self.compressed_users()],
            ),
            Collected(
                "authentication_attempts",
                "[ALPHA] Counter of authenticated attempts.",
                "counter",
                ("result",),
                lambda: [
                    (("success",), float(sum(self.users.values()))),
                    (("error",), float(self.authentication_failures[0])),
                ],
            ),
            Collected(
                "authorization_attempts_total",
                "[ALPHA] Counter of authorization attempts broken down by result. It can be "
                "either 'allowed', 'denied', 'no-opinion' or 'error'.",
                "counter",
                ("result",),
                lambda: [
                    (("allowed",), float(sum(self.users.values()) - self.forbidden[0])),
                    (("no-opinion",), float(self.forbidden[0])),
                ],
            ),
        )

    def compressed_users(self) -> list[tuple[str, int]]:
        """Counts by category, so that names stay out of the metrics."""
        found: dict[str, int] = {}
        for name, count in self.users.items():
            category = compress_user_name(name)
            found[category] = found.get(category, 0) + count
        return sorted(found.items())

    def count_user(self, name: str) -> None:
        """The first request of a user, or of one of too many to keep apart."""
        if len(self.users) >= _MAX_USERS:
            self.users = dict(self.compressed_users())
        self.users[name] = self.users.get(name, 0) + 1


_MAX_USERS = 5_000
_OWN_NAMES = frozenset(
    (
        "admin",
        "client",
        "kube_proxy",
        "kubelet",
        "system:serviceaccount:kube-system:default",
        "email_id",
        "other",
    )
)


def compress_user_name(name: str) -> str:
    if name in _OWN_NAMES:
        return name
    return "email_id" if "@" in name else "other"


def _is_served(info: RequestInfo, resources: ResourceRegistry, api: APIHandler) -> bool:
    if not info.is_resource_request:
        return info.path in api.routes
    served = resources.lookup(info.api_group, info.api_version, info.resource)
    return served is not None and (not info.subresource or info.subresource in served.subresources)


class MeasuredAdmission:
    """The admission chain with ``apiserver_admission_step_admission_duration_seconds``."""

    def __init__(self, chain: Any, histogram: Histogram, seconds: Callable[[], float]) -> None:
        self._admit = chain.admit
        self._validate = chain.validate
        self._histogram = histogram
        self._seconds = seconds

    async def admit(self, attributes: Any) -> None:
        await self._measured(self._admit, attributes, "admit")

    async def validate(self, attributes: Any) -> None:
        await self._measured(self._validate, attributes, "validate")

    async def _measured(self, step: Callable[[Any], Any], attributes: Any, kind: str) -> None:
        start = self._seconds()
        rejected = "true"
        try:
            await step(attributes)
            rejected = "false"
        finally:
            self._histogram.observe(self._seconds() - start, kind, attributes.operation, rejected)


def admission_histograms() -> tuple[Histogram, Histogram]:
    """Of the two steps, and of single plugins."""
    buckets = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
    names = ("type", "operation", "rejected")
    steps = Histogram(
        "apiserver_admission_step_admission_duration_seconds",
        "[STABLE] Admission sub-step latency histogram in seconds, broken out for each "
        "operation and API resource and step type (validate or admit).",
        buckets,
        names,
    )
    plugins = Histogram(
        "apiserver_admission_controller_admission_duration_seconds",
        "[STABLE] Admission controller latency histogram in seconds, identified by name and "
        "broken out for each operation and API resource and type (validate or admit).",
        buckets,
        ("name", "type", "operation", "rejected"),
    )
    return steps, plugins


def version_metric(info: dict[str, Any]) -> Metric:
    return build_info(info)
