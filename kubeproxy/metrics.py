"""What kube-proxy tells of its syncs, by upstream's names (pkg/proxy/metrics)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pilothouse.apimachinery.clock import Clock
from pilothouse.componentbase.metrics import (
    Collected,
    Counter,
    Gauge,
    Histogram,
    Metric,
    Registry,
    exponential_buckets,
    process_metrics,
)

FAMILY = "IPv4"
TABLES = ("filter", "nat")
_SECONDS = exponential_buckets(0.001, 2, 15)
_NETWORK_SECONDS = (
    0.25, 0.5, *(float(n) for n in range(1, 60)), *(60.0 + 5 * n for n in range(12)),
    *(120.0 + 30 * n for n in range(7)),
)  # fmt: skip


def _histogram(name: str, help_: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(f"kubeproxy_{name}", help_, buckets, ("ip_family",))


class ProxyMetrics:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.count_rules: Callable[[], dict[str, int]] = dict
        self.count_not_local: Callable[[], dict[str, int]] = dict
        """Set by the proxier: rules by table, Services by traffic policy."""
        self.sync = _histogram(
            "sync_proxy_rules_duration_seconds", "[ALPHA] SyncProxyRules latency in seconds"
        )
        self.full_sync = _histogram(
            "sync_full_proxy_rules_duration_seconds",
            "[ALPHA] SyncProxyRules latency in seconds for full resyncs",
        )
        self.partial_sync = _histogram(
            "sync_partial_proxy_rules_duration_seconds",
            "[ALPHA] SyncProxyRules latency in seconds for partial resyncs",
        )
        self.network_programming = _histogram(
            "network_programming_duration_seconds",
            "[ALPHA] In Cluster Network Programming Latency in seconds",
            _NETWORK_SECONDS,
        )
        self.conntrack = _histogram(
            "conntrack_reconciler_sync_duration_seconds",
            "[ALPHA] ReconcileConntrackFlowsLatency latency in seconds",
        )
        family = ("ip_family",)
        self.last_sync = Gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "[ALPHA] The last time proxy rules were successfully synced", family,
        )  # fmt: skip
        self.last_queued = Gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "[ALPHA] The last time a sync of proxy rules was queued", family,
        )  # fmt: skip
        self.endpoint_changes = _Changes("endpoint", "Endpoint")
        self.service_changes = _Changes("service", "Service")
        self._add_totals()

    def _add_totals(self) -> None:
        family = ("ip_family",)
        self.failures = Counter(
            "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
            "[ALPHA] Cumulative proxy iptables restore failures", family,
        )  # fmt: skip
        self.partial_failures = Counter(
            "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
            "[ALPHA] Cumulative proxy iptables partial restore failures", family,
        )  # fmt: skip
        self.rules = Collected(
            "kubeproxy_sync_proxy_rules_iptables_total",
            "[ALPHA] Total number of iptables rules owned by kube-proxy", "gauge",
            ("table", *family), lambda: self._per_family(self.count_rules()),
        )  # fmt: skip
        self.rules_written = Gauge(
            "kubeproxy_sync_proxy_rules_iptables_last",
            "[ALPHA] Number of iptables rules written by kube-proxy in last sync",
            ("table", *family),
        )
        self.no_local_endpoints = Collected(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "[ALPHA] Number of services with a Local traffic policy and no endpoints", "gauge",
            ("traffic_policy", *family), lambda: self._per_family(self.count_not_local()),
        )  # fmt: skip
        self.flows_deleted = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "[ALPHA] Cumulative conntrack flows deleted by conntrack reconciler", family,
        )  # fmt: skip
        self.healthz = Counter(
            "kubeproxy_proxy_healthz_total",
            "[ALPHA] Cumulative proxy healthz HTTP status", ("code",),
        )  # fmt: skip
        self.livez = Counter(
            "kubeproxy_proxy_livez_total",
            "[ALPHA] Cumulative proxy livez HTTP status", ("code",),
        )  # fmt: skip
        for counter in (self.failures, self.partial_failures, self.flows_deleted):
            counter.inc(FAMILY, by=0)

    @staticmethod
    def _per_family(counts: dict[str, int]) -> list[tuple[tuple[str, ...], float]]:
        return [((name, FAMILY), float(count)) for name, count in counts.items()]

    def synced(self, seconds: float, *, full: bool) -> None:
        self.sync.observe(seconds, FAMILY)
        (self.full_sync if full else self.partial_sync).observe(seconds, FAMILY)
        self.last_sync.set(self._clock.now().timestamp(), FAMILY)
        self.endpoint_changes.pending.set(0)
        self.service_changes.pending.set(0)

    def queued(self) -> None:
        self.last_queued.set(self._clock.now().timestamp(), FAMILY)

    def failed(self, *, full: bool) -> None:
        self.failures.inc(FAMILY)
        if not full:
            self.partial_failures.inc(FAMILY)

    def wrote(self, text: str) -> None:
        """``text`` was restored."""
        table, counts = "", dict.fromkeys(TABLES, 0)
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith("-A "):
                counts[table] += 1
        for name, count in counts.items():
            self.rules_written.set(count, name, FAMILY)

    def registry(self) -> Registry:
        metrics: list[Metric] = [
            self.sync, self.full_sync, self.partial_sync, self.network_programming, self.conntrack,
            self.last_sync, self.last_queued, *self.endpoint_changes, *self.service_changes,
            self.failures, self.partial_failures, self.rules, self.rules_written,
            self.no_local_endpoints, self.flows_deleted, self.healthz, self.livez,
            *process_metrics(),
        ]  # fmt: skip
        registry = Registry()
        registry.add(*metrics)
        return registry


class _Changes:
    """How many there were, and how many wait for the next sync."""

    def __init__(self, kind: str, title: str) -> None:
        name = f"kubeproxy_sync_proxy_rules_{kind}_changes"
        self.total = Counter(f"{name}_total", f"[ALPHA] Cumulative proxy rules {title} changes")
        self.pending = Gauge(f"{name}_pending", f"[ALPHA] Pending proxy rules {title} changes")
        self.total.inc(by=0)
        self.pending.set(0)

    def note(self) -> None:
        self.total.inc()
        self.pending.inc()

    def __iter__(self) -> Iterator[Metric]:
        return iter((self.total, self.pending))
