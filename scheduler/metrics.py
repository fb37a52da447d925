"""The scheduler's metrics, with upstream's names (pkg/scheduler/metrics)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pilothouse.componentbase.metrics import (
    Collected,
    Counter,
    Gauge,
    Histogram,
    Labels,
    Metric,
    Registry,
)


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    return tuple(start * factor**i for i in range(count))


class SchedulerMetrics:
    def __init__(self, pending: Callable[[], Mapping[str, int]], nodes: Callable[[], int]) -> None:
        """``pending``: pods by queue; ``nodes``: how many the cache holds."""
        self.attempts = Counter(
            "scheduler_schedule_attempts_total",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could "
            "not be scheduled, while 'error' means an internal scheduler problem.",
            ("result", "profile"),
        )
        self.attempt_seconds = Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            exponential(0.001, 2, 15),
            ("result", "profile"),
        )
        self.algorithm_seconds = Histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            exponential(0.001, 2, 15),
        )
        self.sli_seconds = Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling "
            "queue and might involve multiple scheduling attempts.",
            exponential(0.01, 2, 20),
            ("attempts",),
        )
        self.attempts_per_pod = Histogram(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod.",
            exponential(1, 2, 5),
        )
        self.preemption_attempts = Counter(
            "scheduler_preemption_attempts_total",
            "Total preemption attempts in the cluster till now",
        )
        self.preemption_victims = Histogram(
            "scheduler_preemption_victims",
            "Number of selected preemption victims for preemption initiated by a single pod",
            exponential(1, 2, 7),
        )
        self.registry = Registry()
        self.registry.add(
            self.attempts,
            self.attempt_seconds,
            self.algorithm_seconds,
            self.sli_seconds,
            self.attempts_per_pod,
            self.preemption_attempts,
            self.preemption_victims,
            *_collected(pending, nodes),
        )

    def attempted(self, result: str, profile: str, seconds: float) -> None:
        """``result``: scheduled, unschedulable or error."""
        self.attempts.inc(result, profile)
        self.attempt_seconds.observe(seconds, result, profile)

    def scheduled(self, attempts: int, waited: float) -> None:
        """A pod was bound, after so many attempts and seconds in the queue."""
        self.attempts_per_pod.observe(attempts)
        self.sli_seconds.observe(waited, str(attempts) if attempts < 16 else "16+")

    def preempted(self, victims: int) -> None:
        self.preemption_attempts.inc()
        self.preemption_victims.observe(victims)

    def text(self) -> str:
        return self.registry.text()


def _collected(
    pending: Callable[[], Mapping[str, int]], nodes: Callable[[], int]
) -> tuple[Metric, ...]:
    """What is looked up when somebody asks."""

    def queues() -> Iterable[tuple[Labels, float]]:
        return [((queue,), float(count)) for queue, count in pending().items()]

    return (
        Collected(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue type.",
            "gauge",
            ("queue",),
            queues,
        ),
        Gauge(
            "scheduler_cache_nodes",
            "Number of nodes in the scheduler's cache.",
            function=lambda: float(nodes()),
        ),
    )
