"""What the autoscaler counts about itself (podautoscaler/monitor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import (
    Collected,
    Counter,
    Gauge,
    Histogram,
    exponential_buckets,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.componentbase.metrics import Metric

SCALE_UP, SCALE_DOWN, NONE = "scale_up", "scale_down", "none"
SPEC, INTERNAL = "spec", "internal"
_BUCKETS = exponential_buckets(0.001, 2.0, 15)
_ACTION = "The label 'action' should be either 'scale_down', 'scale_up', or 'none'."
_ERROR = "the label 'error' should be either 'spec', 'internal', or 'none'."
_FIRST = (
    f"{_ACTION} Also, {_ERROR} Note that if both spec and internal errors happen during a "
    "reconciliation, the first one to occur is reported in `error` label."
)
_TYPE = "The label 'metric_type' corresponds to HPA.spec.metrics[*].type"


def action_of(current: int, desired: int) -> str:
    if desired == current:
        return NONE
    return SCALE_UP if desired > current else SCALE_DOWN


class Monitor:
    """``count`` tells how many autoscalers there are."""

    def __init__(self, count: Callable[[], int]) -> None:
        prefix = "horizontal_pod_autoscaler_controller"
        self.reconciliations = Counter(
            f"{prefix}_reconciliations_total",
            f"[BETA] Number of reconciliations of HPA controller. {_FIRST}",
            ("action", "error"),
        )
        self.reconciliation_seconds = Histogram(
            f"{prefix}_reconciliation_duration_seconds",
            "[BETA] The time(seconds) that the HPA controller takes to reconcile once. " + _FIRST,
            _BUCKETS,
            ("action", "error"),
        )
        self.computations = Counter(
            f"{prefix}_metric_computation_total",
            f"[BETA] Number of metric computations. {_ACTION} Also, {_ERROR} {_TYPE}",
            ("action", "error", "metric_type"),
        )
        self.computation_seconds = Histogram(
            f"{prefix}_metric_computation_duration_seconds",
            "[BETA] The time(seconds) that the HPA controller takes to calculate one metric. "
            f"{_ACTION} T{_ERROR[1:]} {_TYPE}",
            _BUCKETS,
            ("action", "error", "metric_type"),
        )
        self.autoscalers = Collected(
            f"{prefix}_num_horizontal_pod_autoscalers",
            "[ALPHA] Current number of controlled HPA objects.",
            "gauge",
            (),
            lambda: (((), float(count())),),
        )
        self.desired = Gauge(
            f"{prefix}_desired_replicas",
            "[ALPHA] Current desired replica count for HPA objects.",
            ("namespace", "hpa_name"),
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            self.reconciliations,
            self.reconciliation_seconds,
            self.computations,
            self.computation_seconds,
            self.autoscalers,
            self.desired,
        )

    def reconciled(self, action: str, error: str, seconds: float) -> None:
        self.reconciliations.inc(action, error)
        self.reconciliation_seconds.observe(seconds, action, error)

    def computed(self, action: str, error: str, metric_type: str, seconds: float) -> None:
        self.computations.inc(action, error, metric_type)
        self.computation_seconds.observe(seconds, action, error, metric_type)

    def forget(self, namespace: str, name: str) -> None:
        self.desired.values.pop((namespace, name), None)
