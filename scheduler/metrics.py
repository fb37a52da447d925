"""The scheduler's metrics, with upstream's names (pkg/scheduler/metrics)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pilothouse.componentbase.metrics import (
    Collected,
    Counter,
    Histogram,
    Labels,
    Metric,
    Registry,
    about_metrics,
    build_info,
    exponential_buckets,
    process_metrics,
)
from pilothouse.componentbase.version import version_info

Numbers = Callable[[], Mapping[str, int]]


class SchedulerMetrics:
    def __init__(
        self,
        pending: Numbers,
        sizes: Numbers,
        refused: Callable[[], Mapping[Labels, int]],
        incoming: Mapping[Labels, int],
    ) -> None:
        """``pending``: pods by queue; ``sizes``: of the cache; ``refused``: unschedulable pods by
        plugin and profile; ``incoming``: pods that came by queue and event."""
        self.extension_seconds = Histogram(
            "scheduler_framework_extension_point_duration_seconds",
            "[STABLE] Latency for running all plugins of a specific extension point.",
            exponential_buckets(0.0001, 2, 12),
            ("extension_point", "status", "profile"),
        )
        self.attempts = Counter(
            "scheduler_schedule_attempts_total",
            "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a "
            "pod could not be scheduled, while 'error' means an internal scheduler problem.",
            ("result", "profile"),
        )
        self.attempt_seconds = Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            exponential_buckets(0.001, 2, 15),
            ("result", "profile"),
        )
        self.algorithm_seconds = Histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "[BETA] Scheduling algorithm latency in seconds",
            exponential_buckets(0.001, 2, 15),
        )
        self.sli_seconds = Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "[BETA] E2e latency for a pod being scheduled, from the time the pod enters the "
            "scheduling queue and might involve multiple scheduling attempts.",
            exponential_buckets(0.01, 2, 20),
            ("attempts",),
        )
        self.attempts_per_pod = Histogram(
            "scheduler_pod_scheduling_attempts",
            "[STABLE] Number of attempts to successfully schedule a pod.",
            exponential_buckets(1, 2, 5),
        )
        self._add_preemption()
        self.registry = Registry(by_name=True)
        self.registry.add(
            self.attempts,
            self.attempt_seconds,
            self.algorithm_seconds,
            self.sli_seconds,
            self.attempts_per_pod,
            self.preemption_attempts,
            self.preemption_victims,
            self.extension_seconds,
            *_collected(pending, sizes, refused, incoming),
            build_info(version_info()),
            *process_metrics(),
        )
        self.registry.add(*about_metrics(self.registry))

    def _add_preemption(self) -> None:
        self.preemption_attempts = Counter(
            "scheduler_preemption_attempts_total",
            "[STABLE] Total preemption attempts in the cluster till now",
        )
        self.preemption_victims = Histogram(
            "scheduler_preemption_victims",
            "[STABLE] Number of selected preemption victims for preemption initiated by a single "
            "pod",
            exponential_buckets(1, 2, 7),
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
    pending: Numbers,
    sizes: Numbers,
    refused: Callable[[], Mapping[Labels, int]],
    incoming: Mapping[Labels, int],
) -> tuple[Metric, ...]:
    """What is looked up when somebody asks."""

    def queues() -> Iterable[tuple[Labels, float]]:
        return [((queue,), float(count)) for queue, count in pending().items()]

    return (
        Collected(
            "scheduler_pending_pods",
            "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in "
            "activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of "
            "pods in unschedulableEntities that the scheduler attempted to schedule and failed; "
            "'gated' is the number of unschedulable pods that the scheduler never attempted to "
            "schedule because they are gated; 'incomplete' means number of pods in "
            "incompletePodGroupPods; 'pending' means number of pods in pendingPodGroupPods.",
            "gauge",
            ("queue",),
            queues,
        ),
        Collected(
            "scheduler_cache_size",
            "[ALPHA] Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            "gauge",
            ("type",),
            lambda: [((what,), float(count)) for what, count in sizes().items()],
        ),
        Collected(
            "scheduler_unschedulable_pods",
            "[BETA] The number of unschedulable pods broken down by plugin name. A pod will "
            "increment the gauge for all plugins that caused it to not schedule and so this metric "
            "have meaning only when broken down by plugin.",
            "gauge",
            ("plugin", "profile"),
            lambda: [(key, float(count)) for key, count in refused().items()],
        ),
        Collected(
            "scheduler_queue_incoming_pods_total",
            "[STABLE] Number of pods added to scheduling queues by event and queue type.",
            "counter",
            ("queue", "event"),
            lambda: [(key, float(count)) for key, count in incoming.items()],
        ),
    )
