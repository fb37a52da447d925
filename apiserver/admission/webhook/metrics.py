"""What webhooks cost and how often they refuse (apiserver pkg/admission/metrics)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import Counter, Histogram

if TYPE_CHECKING:
    from pilothouse.componentbase.metrics import Registry

_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10, 25)
_MAX_CODE = 600

CALLING_ERROR = "calling_webhook_error"
INTERNAL_ERROR = "apiserver_internal_error"
NO_ERROR = "no_error"


class WebhookMetrics:
    """One instance a plugin, over the same series."""

    def __init__(self) -> None:
        self.duration = Histogram(
            "apiserver_admission_webhook_admission_duration_seconds",
            "[STABLE] Admission webhook latency histogram in seconds, identified by name and "
            "broken out for each operation and API resource and type (validate or admit).",
            _BUCKETS,
            ("name", "type", "operation", "rejected"),
        )
        self.rejections = Counter(
            "apiserver_admission_webhook_rejection_count",
            "[ALPHA] Admission webhook rejection count, identified by name and broken out for each "
            "admission type (validating or admit) and operation.",
            ("name", "type", "operation", "error_type", "rejection_code"),
        )
        self.fail_open = Counter(
            "apiserver_admission_webhook_fail_open_count",
            "[ALPHA] Admission webhook fail open count, identified by name and broken out for each "
            "admission type (validating or admit).",
            ("name", "type"),
        )
        self.requests = Counter(
            "apiserver_admission_webhook_request_total",
            "[ALPHA] Admission webhook request total, identified by name and broken out for each "
            "admission type (validating or admit) and operation. Additional labels specify "
            "whether the request was rejected or not and an HTTP status code. Codes greater than "
            "600 are truncated to 600, to keep the metrics cardinality bounded.",
            ("name", "type", "operation", "code", "rejected"),
        )
        self.condition_errors = Counter(
            "apiserver_admission_match_condition_evaluation_errors_total",
            "[ALPHA] Admission match condition evaluation errors count, identified by name of "
            "resource containing the match condition and broken out for each kind containing "
            "matchConditions (webhook or policy), operation and admission type.",
            ("name", "kind", "type", "operation"),
        )
        self.condition_exclusions = Counter(
            "apiserver_admission_match_condition_exclusions_total",
            "[ALPHA] Admission match condition evaluation exclusions count, identified by name of "
            "resource containing the match condition and broken out for each kind containing "
            "matchConditions (webhook or policy), operation and admission type.",
            ("name", "kind", "type", "operation"),
        )

    def called(
        self, name: str, kind: str, operation: str, seconds: float, code: int, *, rejected: bool
    ) -> None:
        shown = "true" if rejected else "false"
        self.duration.observe(seconds, name, kind, operation, shown)
        self.requests.inc(name, kind, operation, str(min(code, _MAX_CODE)), shown)

    def rejected(self, name: str, kind: str, operation: str, why: str, code: int) -> None:
        self.rejections.inc(name, kind, operation, why, str(min(code, _MAX_CODE)))


def metrics_of(registry: Registry | None) -> WebhookMetrics:
    """The webhook metrics of ``registry``, which has them from now on."""
    metrics = WebhookMetrics()
    if registry is not None:
        for name, metric in vars(metrics).items():
            known = registry.get(metric.name)
            if known is None:
                registry.add(metric)
            else:
                setattr(metrics, name, known)
    return metrics
