"""``workqueue_*`` of a component's queues, read off them when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.componentbase.histograms import Series
from pilothouse.componentbase.metrics import Collected, CollectedHistogram
from pilothouse.kubeclient.workqueue.queue import DURATION_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.componentbase.metrics import Labels, Metric
    from pilothouse.kubeclient.workqueue.queue import WorkQueue

    Queues = Callable[[], Iterable[WorkQueue[Any]]]

_NAMES = ("name",)
_NUMBERS: tuple[tuple[str, str, str, Callable[[WorkQueue[Any]], float]], ...] = (
    (
        "adds_total",
        "counter",
        "[BETA] Total number of adds handled by workqueue",
        lambda queue: queue.adds,
    ),
    (
        "retries_total",
        "counter",
        "[BETA] Total number of retries handled by workqueue",
        lambda queue: queue.retries,
    ),
    ("depth", "gauge", "[BETA] Current depth of workqueue", len),
    (
        "unfinished_work_seconds",
        "gauge",
        "[BETA] How many seconds of work has done that is in progress and hasn't been observed by "
        "work_duration. Large values indicate stuck threads. One can deduce the number of stuck "
        "threads by observing the rate at which this increases.",
        lambda queue: sum(queue.unfinished()),
    ),
)


def queue_metrics(queues: Queues) -> tuple[Metric, ...]:
    """``queues`` gives those that there are when somebody asks; several may share a name."""

    def number(name: str, kind: str, help: str, value: Callable[[WorkQueue[Any]], float]) -> Metric:
        def values() -> Iterable[tuple[Labels, float]]:
            totals: dict[Labels, float] = {}
            for queue in queues():
                totals[(queue.name,)] = totals.get((queue.name,), 0.0) + value(queue)
            return totals.items()

        return Collected(f"workqueue_{name}", help, kind, _NAMES, values)

    def longest() -> Iterable[tuple[Labels, float]]:
        found: dict[Labels, float] = {}
        for queue in queues():
            seconds = max(queue.unfinished(), default=0.0)
            found[(queue.name,)] = max(found.get((queue.name,), 0.0), seconds)
        return found.items()

    def histogram(name: str, help: str, series: Callable[[WorkQueue[Any]], Series]) -> Metric:
        def values() -> Iterable[tuple[Labels, Series]]:
            found: dict[Labels, Series] = {}
            for queue in queues():
                found.setdefault((queue.name,), Series(DURATION_BUCKETS)).add(series(queue))
            return found.items()

        return CollectedHistogram(f"workqueue_{name}", help, _NAMES, values)

    return (
        *(number(*row) for row in _NUMBERS),
        Collected(
            "workqueue_longest_running_processor_seconds",
            "[BETA] How many seconds has the longest running processor for workqueue been running.",
            "gauge",
            _NAMES,
            longest,
        ),
        histogram(
            "queue_duration_seconds",
            "[BETA] How long in seconds an item stays in workqueue before being requested.",
            lambda queue: queue.queue_seconds,
        ),
        histogram(
            "work_duration_seconds",
            "[BETA] How long in seconds processing an item from workqueue takes.",
            lambda queue: queue.work_seconds,
        ),
    )
