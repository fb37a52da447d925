"""What conversion webhooks cost (apiextensions pkg/apiserver/conversion/metrics.go)."""

from __future__ import annotations

from pilothouse.componentbase.metrics import Counter, Histogram, exponential_buckets

CALL = "conversion_webhook_call_failure"
MALFORMED = "conversion_webhook_malformed_response_failure"
PARTIAL = "conversion_webhook_partial_response_failure"
INVALID = "conversion_webhook_invalid_converted_object_failure"
_LABELS = ("result", "failure_type")


class ConversionMetrics:
    """Of all webhooks of one API server."""

    def __init__(self) -> None:
        self.conversions = Histogram(
            "apiserver_crd_conversion_webhook_duration_seconds",
            "[ALPHA] CRD webhook conversion duration in seconds",
            exponential_buckets(0.001, 2.0, 15),
            ("crd_name", "from_version", "to_version", "succeeded"),
        )
        self.requests = Counter(
            "apiserver_conversion_webhook_request_total",
            "[ALPHA] Counter for conversion webhook requests with success/failure and failure "
            "error type",
            _LABELS,
        )
        self.seconds = Histogram(
            "apiserver_conversion_webhook_duration_seconds",
            "[ALPHA] Conversion webhook request latency",
            (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45, 60),
            _LABELS,
        )

    def reviewed(self, seconds: float, failure: str) -> None:
        """One review; ``failure`` is empty when it was answered well."""
        labels = ("failure" if failure else "success", failure)
        self.requests.inc(*labels)
        self.seconds.observe(seconds, *labels)
