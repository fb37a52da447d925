"""``/metrics/probes``: how probes went (pkg/kubelet/prober)."""

from __future__ import annotations

from pilothouse.componentbase.metrics import Counter, Histogram, Registry

Labels = tuple[str, str, str, str, str]
"""Type of the probe, container, pod, namespace, uid."""
_RESULTS = ("successful", "failed")
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ProbeMetrics:
    """Series live as long as what they tell of."""

    def __init__(self) -> None:
        self.totals = Counter(
            "prober_probe_total",
            "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by "
            "result.",
            ("probe_type", "result", "container", "pod", "namespace", "pod_uid"),
        )
        self.seconds = Histogram(
            "prober_probe_duration_seconds",
            "[ALPHA] Duration in seconds for a probe response.",
            _DURATIONS,
            ("probe_type", "container", "pod", "namespace"),
        )

    def probed(self, labels: Labels, seconds: float, *, success: bool) -> None:
        self.totals.inc(labels[0], _RESULTS[not success], *labels[1:])
        if success:
            self.seconds.observe(seconds, *labels[:4])

    def forget(self, labels: Labels) -> None:
        for result in _RESULTS:
            self.totals.values.pop((labels[0], result, *labels[1:]), None)
        self.seconds.forget(*labels[:4])

    def registry(self) -> Registry:
        registry = Registry(by_name=True)
        registry.add(self.totals, self.seconds)
        return registry
