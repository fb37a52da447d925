"""Metrics of watch caches, read off their :class:`Counts` when somebody asks."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.storage.cacher.watch_cache import UPPER_BOUND
from pilothouse.componentbase.histograms import Series
from pilothouse.componentbase.metrics import Collected, CollectedHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apiserver.storage.cacher.counts import Counts
    from pilothouse.componentbase.metrics import Labels, Metric

    Caches = Callable[[], Iterable[tuple[str, str, Any]]]
    """(group, resource, cacher) of those that are in use."""

_NAMES = ("group", "resource")
_LISTED = (*_NAMES, "index")
_SAMPLE = 500
_INITIALIZATION = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
_READ_WAIT = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0)


def cache_metrics(caches: Caches) -> tuple[Metric, ...]:
    """All of them."""

    def deprecated() -> list[tuple[Labels, float]]:
        return [
            ((f"{name}.{group}" if group else name,), float(len(cache)))
            for group, name, cache in caches()
        ]

    return (
        Collected(
            "apiserver_storage_objects",
            "[STABLE] [DEPRECATED, consider using apiserver_resource_objects instead] Number of "
            "stored objects at the time of last check split by kind. In case of a fetching "
            "error, the value will be -1.",
            "gauge",
            ("resource",),
            deprecated,
        ),
        *(_of_cache(caches, "gauge", *row) for row in _GAUGES),
        *(_of_counts(caches, *row) for row in _COUNTERS),
        *_list_metrics(caches),
        *_waits(caches),
    )


def _of_cache(
    caches: Caches, kind: str, name: str, help: str, value: Callable[[Any], float]
) -> Metric:
    return Collected(
        name,
        help,
        kind,
        _NAMES,
        lambda: [((group, what), float(value(cache))) for group, what, cache in caches()],
    )


def _of_counts(caches: Caches, name: str, help: str, value: Callable[[Counts], float]) -> Metric:
    return _of_cache(caches, "counter", name, help, lambda cache: value(cache.counts))


def estimated_bytes(cache: Any) -> float:
    """Of all objects, from the sizes of some: nobody may have to wait for a count of them all."""
    sizes = [len(entry.data) for entry in islice(cache._cache.entries.values(), _SAMPLE)]
    return sum(sizes) * len(cache) / len(sizes) if sizes else 0.0


_GAUGES: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
    (
        "apiserver_resource_objects",
        "[ALPHA] Number of stored objects at the time of last check split by kind. In case "
        "of a fetching error, the value will be -1.",
        len,
    ),
    (
        "apiserver_resource_size_estimate_bytes",
        "[ALPHA] Estimated size of stored objects in database. Estimate is based on sum of last "
        "observed sizes of serialized objects. In case of a fetching error, the value will be -1.",
        estimated_bytes,
    ),
    (
        "apiserver_watch_cache_resource_version",
        "[ALPHA] Current resource version of watch cache broken by resource type. This is "
        "truncated to the 15 least significant digits.",
        lambda cache: cache.revision % 10**15,
    ),
    (
        "watch_cache_capacity",
        "[ALPHA] Total capacity of watch cache broken by resource type.",
        lambda cache: UPPER_BOUND,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Counts], float]], ...] = (
    (
        "apiserver_storage_events_received_total",
        "[BETA] Number of etcd events received split by kind.",
        lambda counts: counts.received,
    ),
    (
        "apiserver_watch_cache_events_received_total",
        "[ALPHA] Counter of events received in watch cache broken by resource type.",
        lambda counts: counts.received,
    ),
    (
        "apiserver_watch_cache_events_dispatched_total",
        "[ALPHA] Counter of events dispatched in watch cache broken by resource type.",
        lambda counts: counts.dispatched,
    ),
    (
        "etcd_bookmark_total",
        "[ALPHA] Number of etcd bookmarks (progress notify events) split by kind.",
        lambda counts: counts.bookmarks,
    ),
    (
        "apiserver_init_events_total",
        "[ALPHA] Counter of init events processed in watch cache broken by resource type.",
        lambda counts: counts.init_events,
    ),
    (
        "apiserver_watch_cache_initializations_total",
        "[ALPHA] Counter of watch cache initializations broken by resource type.",
        lambda counts: len(counts.load_seconds),
    ),
)
_LISTS: tuple[tuple[str, str, tuple[str, ...], Callable[[Counts], float]], ...] = (
    (
        "total",
        "[ALPHA] Number of LIST requests served from storage",
        _LISTED,
        lambda counts: counts.lists,
    ),
    (
        "fetched_objects_total",
        "[ALPHA] Number of objects read from storage in the course of serving a LIST request",
        _LISTED,
        lambda counts: counts.fetched,
    ),
    (
        "evaluated_objects_total",
        "[ALPHA] Number of objects tested in the course of serving a LIST request from storage",
        _NAMES,
        lambda counts: counts.fetched,
    ),
    (
        "returned_objects_total",
        "[ALPHA] Number of objects returned for a LIST request from storage",
        _NAMES,
        lambda counts: counts.returned,
    ),
)


def _list_metrics(caches: Caches) -> list[Metric]:
    """Lists from the caches; those at old revisions are ``etcd_requests_total``'s."""

    def made(
        name: str, help: str, names: tuple[str, ...], value: Callable[[Counts], float]
    ) -> Metric:
        index = ("",) if names is _LISTED else ()

        def values() -> list[tuple[Labels, float]]:
            return [
                ((group, what, *index, "watchcache"), float(value(cache.counts)))
                for group, what, cache in caches()
                if cache.counts.lists
            ]

        return Collected(
            f"apiserver_storage_list_{name}", help, "counter", (*names, "storage"), values
        )

    return [made(*row) for row in _LISTS]


def _waits(caches: Caches) -> tuple[Metric, ...]:
    waits: dict[Labels, Series] = {}

    def read_waits() -> Iterable[tuple[Labels, Series]]:
        for group, what, cache in caches():
            taken, cache.counts.read_waits = cache.counts.read_waits, []
            if taken:
                series = waits.setdefault((group, what), Series(_READ_WAIT))
                for seconds in taken:
                    series.observe(seconds)
        return list(waits.items())

    def loads() -> Iterable[tuple[Labels, Series]]:
        for group, what, cache in caches():
            series = Series(_INITIALIZATION)
            for seconds in cache.counts.load_seconds:
                series.observe(seconds)
            yield (group, what), series

    def consistent() -> list[tuple[Labels, float]]:
        return [
            ((group, what, "true", "false"), float(cache.counts.consistent_reads))
            for group, what, cache in caches()
            if cache.counts.consistent_reads
        ]

    return (
        CollectedHistogram(
            "apiserver_watch_cache_read_wait_seconds",
            "[ALPHA] Histogram of time spent waiting for a watch cache to become fresh.",
            _NAMES,
            read_waits,
        ),
        CollectedHistogram(
            "apiserver_watch_cache_initialization_duration_seconds",
            "[ALPHA] Histogram of watch cache initialization duration in seconds, broken by "
            "resource type.",
            _NAMES,
            loads,
        ),
        Collected(
            "apiserver_watch_cache_consistent_read_total",
            "[ALPHA] Counter for consistent reads from cache.",
            "counter",
            (*_NAMES, "success", "fallback"),
            consistent,
        ),
    )
