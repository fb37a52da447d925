"""``rest_client_*``: what a component asks of API servers (client-go's tools/metrics)."""

from __future__ import annotations

from urllib.parse import urlsplit

from pilothouse.componentbase.metrics import Counter, Histogram, Metric, exponential_buckets

_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_BYTES = (64.0, 256.0, 512.0, 1024.0, *exponential_buckets(4096.0, 4.0, 7))
_NAMES = ("verb", "host")


class ClientMetrics:
    """Of one client; an answer that never came counts with the code ``<error>``."""

    def __init__(self, server: str) -> None:
        self._host = urlsplit(server).netloc
        self.requests = Counter(
            "rest_client_requests_total",
            "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "method", "host"),
        )
        self.seconds = Histogram(
            "rest_client_request_duration_seconds",
            "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
            _SECONDS,
            _NAMES,
        )
        self.sent = Histogram(
            "rest_client_request_size_bytes",
            "[ALPHA] Request size in bytes. Broken down by verb and host.",
            _BYTES,
            _NAMES,
        )
        self.received = Histogram(
            "rest_client_response_size_bytes",
            "[ALPHA] Response size in bytes. Broken down by verb and host.",
            _BYTES,
            _NAMES,
        )

    def all(self) -> tuple[Metric, ...]:
        return self.requests, self.seconds, self.sent, self.received

    def answered(self, method: str, code: str, seconds: float, sent: int) -> None:
        self.requests.inc(code, method, self._host)
        self.seconds.observe(seconds, method, self._host)
        self.sent.observe(sent, method, self._host)

    def read(self, method: str, size: int) -> None:
        self.received.observe(size, method, self._host)
