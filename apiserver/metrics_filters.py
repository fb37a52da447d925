"""How long authentication and authorization take, and what they decide.

Both are on every request's path: an observation is a clock read before and after and one
``append`` (see ``componentbase/histograms.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.componentbase.histograms import FOLD, Series
from pilothouse.componentbase.metrics import (
    Collected,
    CollectedHistogram,
    Counter,
    Gauge,
    Histogram,
    exponential_buckets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pilothouse.componentbase.metrics import Labels, Metric

_DURATIONS = exponential_buckets(0.001, 2.0, 15)
_FILTERS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 10.0, 15.0, 30.0)
_BOTH = tuple(sorted({*_DURATIONS, *_FILTERS}))
BODY_BUCKETS = tuple(float(50_000 + 100_000 * i) for i in range(31))
IMPERSONATION = ("mode", "decision")
_REQUESTED = ("group", "version", "resource", "subresource", "removed_release")


class FilterMetrics:
    """Where the filters write; ``Series`` by result."""

    def __init__(self) -> None:
        self.authenticated = Series(_BOTH)
        self.unauthenticated = Series(_BOTH)
        self.allowed = Series(_BOTH)
        self.refused = Series(_BOTH)
        self.impersonations = Counter(
            "apiserver_impersonation_attempts_total",
            "[ALPHA] Total number of impersonation attempts split by mode and decision.",
            IMPERSONATION,
        )
        self.impersonation_seconds = Histogram(
            "apiserver_impersonation_attempts_duration_seconds",
            "[ALPHA] Latency of impersonation attempts in seconds split by mode and decision.",
            _DURATIONS,
            IMPERSONATION,
        )
        self.deprecated = Gauge(
            "apiserver_requested_deprecated_apis",
            "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, "
            "version, resource, subresource, and removed_release.",
            _REQUESTED,
        )
        self.body_sizes = Histogram(
            "apiserver_request_body_size_bytes",
            "[ALPHA] Apiserver request body size in bytes broken out by resource and verb.",
            BODY_BUCKETS,
            ("resource", "verb", "group"),
        )

    def impersonated(self, mode: str, seconds: float, *, allowed: bool) -> None:
        decision = "allowed" if allowed else "denied"
        self.impersonations.inc(mode, decision)
        self.impersonation_seconds.observe(seconds, mode, decision)

    def all(self) -> tuple[Metric, ...]:
        return (
            CollectedHistogram(
                "authentication_duration_seconds",
                "[ALPHA] Authentication duration in seconds broken out by result.",
                ("result",),
                lambda: _named(success=self.authenticated, error=self.unauthenticated),
            ),
            CollectedHistogram(
                "authorization_duration_seconds",
                "[ALPHA] Authorization duration in seconds broken out by result.",
                ("result",),
                lambda: _named(allowed=self.allowed, no_opinion=self.refused),
            ),
            CollectedHistogram(
                "apiserver_request_filter_duration_seconds",
                "[ALPHA] Request filter latency distribution in seconds, for each filter type",
                ("filter",),
                self._filters,
            ),
            self.impersonations,
            self.impersonation_seconds,
            self.deprecated,
            self.body_sizes,
        )

    def _filters(self) -> Iterator[tuple[Labels, Series]]:
        for name, good, bad in (
            ("authentication", self.authenticated, self.unauthenticated),
            ("authorization", self.allowed, self.refused),
        ):
            series = good.rebucketed(_FILTERS)
            series.add(bad.rebucketed(_FILTERS))
            if any(series.counts):
                yield (name,), series


def _named(**found: Series) -> Iterator[tuple[Labels, Series]]:
    for name, series in found.items():
        if any(series.counts):
            yield (name.replace("_", "-"),), series.rebucketed(_DURATIONS)


def observe(series: Series, value: float) -> None:
    pending = series.pending
    pending.append(value)
    if len(pending) >= FOLD:
        series.fold()


def decision_metric(authorizer: Any) -> Metric:
    """``authorizer``: the union, which counts by authorizer."""

    def decisions() -> Iterable[tuple[Labels, float]]:
        found: dict[Labels, float] = {}
        for word, counts in (("allowed", authorizer.allowed), ("denied", authorizer.denied)):
            for each, count in counts.items():
                labels = (*authorizer_names(each), word)
                found[labels] = found.get(labels, 0.0) + count
        return list(found.items())

    return Collected(
        "apiserver_authorization_decisions_total",
        "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer "
        "type, name, and decision.",
        "counter",
        ("type", "name", "decision"),
        decisions,
    )


def authorizer_names(authorizer: Any) -> tuple[str, str]:
    """(type, name)"""
    kind = type(authorizer).__name__.removesuffix("Authorizer")
    return kind, getattr(authorizer, "name", "") or kind.lower()


_TOKENS: tuple[tuple[str, str, str], ...] = (
    (
        "valid_tokens_total",
        "[BETA] Cumulative valid projected service account tokens used",
        "valid",
    ),
    (
        "stale_tokens_total",
        "[BETA] Cumulative stale projected service account tokens used",
        "stale",
    ),
    ("legacy_tokens_total", "[BETA] Cumulative legacy service account tokens used", "legacy"),
    (
        "legacy_manual_token_uses_total",
        "[ALPHA] Cumulative manually created legacy tokens used",
        "legacy_manual",
    ),
    (
        "legacy_auto_token_uses_total",
        "[ALPHA] Cumulative auto-generated legacy tokens used",
        "legacy_auto",
    ),
)


def credential_metrics(authenticator: Any) -> tuple[Metric, ...]:
    """Of certificates and service account tokens."""
    x509 = authenticator.x509
    counts = authenticator.token_counts

    def lifetimes() -> Iterable[tuple[Labels, Series]]:
        return [((), x509.lifetimes)] if x509 is not None else ()

    def fetches() -> Iterable[tuple[Labels, float]]:
        found = (("ok", counts.misses - counts.bad), ("error", counts.bad))
        return [((word,), float(number)) for word, number in found if number]

    def total(field: str) -> Callable[[], Iterable[tuple[Labels, float]]]:
        return lambda: [((), float(getattr(counts, field)))]

    certificates = CollectedHistogram(
        "apiserver_client_certificate_expiration_seconds",
        "[ALPHA] Distribution of the remaining lifetime on the certificate used to "
        "authenticate a request.",
        (),
        lifetimes,
    )
    if counts is None:
        return (certificates,)
    status = ("status",)
    return (
        certificates,
        *(
            Collected(f"serviceaccount_{name}", help, "counter", (), total(field))
            for name, help, field in _TOKENS
        ),
        Collected(
            "authentication_token_cache_request_total",
            "[ALPHA] ",
            "counter",
            status,
            lambda: [(("hit",), float(counts.hits)), (("miss",), float(counts.misses))],
        ),
        Collected("authentication_token_cache_fetch_total", "[ALPHA] ", "counter", status, fetches),
    )
