"""Metrics that are read off an API server when somebody asks: caches, connections, the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pilothouse.apiserver.aggregator.api_service import API_SERVICES, is_available
from pilothouse.apiserver.apiextensions.cel_timings import timing_metrics
from pilothouse.apiserver.audit.counters import audit_counters
from pilothouse.apiserver.metrics import (
    MeasuredAdmission,
    admission_histograms,
    version_metric,
)
from pilothouse.apiserver.metrics_caches import cache_metrics
from pilothouse.apiserver.metrics_filters import credential_metrics, decision_metric
from pilothouse.apiserver.storage.keys import REGISTRY
from pilothouse.apiserver.storage.measured import MeasuredStorage
from pilothouse.componentbase.metrics import Collected, about_metrics
from pilothouse.componentbase.version import version_info
from pilothouse.kubeclient.workqueue.metrics import queue_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.apiserver.server import APIServer
    from pilothouse.apiserver.storage.interfaces import Storage
    from pilothouse.componentbase.metrics import Metric

READ_ONLY, MUTATING = "readOnly", "mutating"


def measured_storage(server: APIServer) -> Storage:
    """The server's store with ``etcd_request_*`` metrics."""

    def label_of(key: str) -> tuple[str, str]:
        for served in server.registry.all():
            if key.startswith(served.prefix):
                return served.gvr.group, served.gvr.resource
        return "", key[len(REGISTRY) :].partition("/")[0]

    measured = MeasuredStorage(server.storage, label_of)
    server.metrics.add(*measured.metrics())
    return cast("Storage", measured)


def measured_admission(server: APIServer) -> Any:
    histogram, of_plugins = admission_histograms()
    server.metrics.add(histogram, of_plugins)
    server.admission.seconds = of_plugins
    return MeasuredAdmission(server.admission, histogram, time.perf_counter)


def install_metrics(server: APIServer) -> None:
    """What is collected of the parts of a built server."""

    def caches() -> Iterator[tuple[str, str, Any]]:
        seen = set()
        for store in list(server.kinds._stores.values()) if server.kinds else ():
            served = store.served
            if store.cacher.ready and served.prefix not in seen:
                seen.add(served.prefix)
                yield served.gvr.group, served.gvr.resource, store.cacher

    def inflight() -> list[tuple[tuple[str, ...], float]]:
        running = server.server.services.get("inflight") or (0, 0)
        return [((READ_ONLY,), float(running[0])), ((MUTATING,), float(running[1]))]

    def queued() -> list[tuple[tuple[str, ...], float]]:
        waiting = server.server.services.get("inqueue") or (0, 0)
        return [((READ_ONLY,), float(waiting[0])), ((MUTATING,), float(waiting[1]))]

    server.metrics.add(
        Collected(
            "apiserver_current_inflight_requests",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver "
            "per request kind in last second.",
            "gauge",
            ("request_kind",),
            inflight,
        ),
        Collected(
            "apiserver_current_inqueue_requests",
            "[ALPHA] Maximal number of queued requests in this apiserver per request kind in "
            "last second.",
            "gauge",
            ("request_kind",),
            queued,
        ),
        Collected(
            "apiserver_longrunning_requests",
            "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, "
            "group, version, resource, scope and component. Not all requests are tracked this "
            "way.",
            "gauge",
            ("verb", "group", "version", "resource", "subresource", "scope", "component"),
            lambda: _watches(server),
        ),
        _handshake_metric(server),
        *cache_metrics(caches),
        decision_metric(server.authorizer),
        *credential_metrics(server.server.services["authenticator"]),
        *_allocator_metrics(server),
        *timing_metrics(),
        *_audit_metrics(server),
        *_store_metrics(server),
        version_metric(version_info()),
        *about_metrics(server.metrics),
        *_aggregator_metrics(server),
    )


def _watches(server: APIServer) -> list[tuple[tuple[str, ...], float]]:
    """Streams that are open now, found by their connections."""
    _count_streams(server)
    found = {}
    for series in server.measurements.all():
        if series.long_running or series.streams:
            labels = (series.labels[0], *series.labels[2:], "apiserver")
            found[labels] = float(series.long_running + series.streams)
    return list(found.items())


def _handshake_metric(server: APIServer) -> Metric:
    return Collected(
        "apiserver_tls_handshake_errors_total",
        "[ALPHA] Number of requests dropped with 'TLS handshake error from' error",
        "counter",
        (),
        lambda: (((), float(server._http.handshake_errors if server._http else 0)),),
    )


def _audit_metrics(server: APIServer) -> tuple[Metric, ...]:
    """Where there is no auditor that has its own."""
    return () if server.auditor is not None else audit_counters()


def _store_metrics(server: APIServer) -> tuple[Metric, ...]:
    """Of the file, where the store is one."""
    config = server.config
    if config.storage != "sqlite":
        return ()
    file = Path(config.data_dir or ".") / "state.db"

    def size() -> list[tuple[tuple[str, ...], float]]:
        return [(("etcd-0",), float(file.stat().st_size))] if file.exists() else []

    return (
        Collected(
            "apiserver_storage_size_bytes",
            "[STABLE] Size of the storage database file physically allocated in bytes.",
            "gauge",
            ("storage_cluster_id",),
            size,
        ),
    )


def _allocator_metrics(server: APIServer) -> tuple[Metric, ...]:
    """Of ClusterIPs and node ports: ``kube_apiserver_clusterip_allocator_…``."""

    def addresses(free: bool) -> list[tuple[tuple[str, ...], float]]:
        allocators = server.context.allocators
        return [
            ((str(each.network),), float(each.free if free else each.size - each.free))
            for each in allocators.by_family.values()
        ]

    def ports(free: bool) -> list[tuple[tuple[str, ...], float]]:
        allocator = server.context.allocators.ports
        return [((), float(allocator.free if free else allocator.taken))]

    prefix = "kube_apiserver_clusterip_allocator"
    return (
        *_allocation_counters(server),
        Collected(
            f"{prefix}_allocated_ips",
            "[ALPHA] Gauge measuring the number of allocated IPs for Services",
            "gauge",
            ("cidr",),
            lambda: addresses(free=False),
        ),
        Collected(
            f"{prefix}_available_ips",
            "[ALPHA] Gauge measuring the number of available IPs for Services",
            "gauge",
            ("cidr",),
            lambda: addresses(free=True),
        ),
        Collected(
            "kube_apiserver_nodeport_allocator_allocated_ports",
            "[ALPHA] Gauge measuring the number of allocated NodePorts for Services",
            "gauge",
            (),
            lambda: ports(free=False),
        ),
        Collected(
            "kube_apiserver_nodeport_allocator_available_ports",
            "[ALPHA] Gauge measuring the number of available NodePorts for Services",
            "gauge",
            (),
            lambda: ports(free=True),
        ),
    )


def _allocation_counters(server: APIServer) -> tuple[Metric, ...]:
    def counter(name: str, help: str, attribute: str) -> Metric:
        def given() -> list[tuple[tuple[str, ...], float]]:
            counts = getattr(server.context.allocators, attribute)
            return [(key, float(count)) for key, count in counts.items()]

        full = f"kube_apiserver_clusterip_allocator_{name}"
        return Collected(full, help, "counter", ("cidr", "scope"), given)

    return (
        counter("allocation_total", "[ALPHA] Number of Cluster IPs allocations", "allocations"),
        counter(
            "allocation_errors_total",
            "[ALPHA] Number of errors trying to allocate Cluster IPs",
            "allocation_errors",
        ),
    )


def _aggregator_metrics(server: APIServer) -> tuple[Metric, ...]:
    """What serves group versions, and the queues of those who watch over it."""

    def unavailable() -> Iterator[tuple[tuple[str, ...], float]]:
        for obj in server.listers.list(API_SERVICES.group_resource):
            yield (obj["metadata"]["name"],), 0.0 if is_available(obj) else 1.0

    return (
        Collected(
            "aggregator_unavailable_apiservice",
            "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by "
            "APIService name.",
            "gauge",
            ("name",),
            unavailable,
        ),
        *queue_metrics(lambda: server.aggregator.queues() if server.aggregator else ()),
    )


def _count_streams(server: APIServer) -> None:
    for series in server.measurements.all():
        series.streams = 0
    for connection in server._http.connections if server._http else ():
        if connection.stop_push is not None:
            watched = connection.state.get("series")
            if watched is not None:
                watched.streams += 1
