"""The stable metrics of single controllers, under upstream's names (``own_metrics``)."""

from __future__ import annotations

from pilothouse.componentbase.metrics import Counter, Histogram, Metric, exponential_buckets


class JobMetrics:
    """pkg/controller/job/metrics."""

    def __init__(self) -> None:
        labels = ("completion_mode", "result", "action")
        self.seconds = Histogram(
            "job_controller_job_sync_duration_seconds",
            "[STABLE] The time it took to sync a job",
            exponential_buckets(0.004, 2, 15),
            labels,
        )
        self.syncs = Counter(
            "job_controller_job_syncs_total", "[STABLE] The number of job syncs", labels
        )
        self.finished = Counter(
            "job_controller_jobs_finished_total",
            "[STABLE] The number of finished jobs",
            ("completion_mode", "result", "reason"),
        )
        self.pods = Counter(
            "job_controller_job_pods_finished_total",
            "[STABLE] The number of finished Pods that are fully tracked",
            ("completion_mode", "result"),
        )

    def all(self) -> tuple[Metric, ...]:
        return self.seconds, self.syncs, self.finished, self.pods

    def synced(self, mode: str, seconds: float, action: str, *, failed: bool) -> None:
        result = "error" if failed else "success"
        self.seconds.observe(seconds, mode, result, action)
        self.syncs.inc(mode, result, action)


def creation_skew() -> Histogram:
    """pkg/controller/cronjob/metrics."""
    return Histogram(
        "cronjob_controller_job_creation_skew_duration_seconds",
        "[STABLE] Time between when a cronjob is scheduled to be run, and when the corresponding "
        "job is created",
        exponential_buckets(1, 2, 10),
    )


def node_evictions() -> Counter:
    """pkg/controller/nodelifecycle."""
    return Counter(
        "node_collector_evictions_total",
        "[STABLE] Number of Node evictions that happened since current instance of NodeController "
        "started.",
        ("zone",),
    )
