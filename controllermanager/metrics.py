"""``/metrics`` of the controllers: their work queues, under client-go's names, and the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import Collected, Registry, build_info, process_metrics
from pilothouse.componentbase.version import version_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.kubeclient.workqueue.queue import WorkQueue


def queue_metrics(queues: Callable[[], Iterable[WorkQueue[str]]]) -> Registry:
    """``queues`` gives those that there are when somebody asks."""

    def values(value: Callable[[WorkQueue[str]], int]) -> list[tuple[tuple[str, ...], float]]:
        totals: dict[tuple[str, ...], float] = {}
        for queue in queues():
            totals[(queue.name,)] = totals.get((queue.name,), 0.0) + value(queue)
        return list(totals.items())

    registry = Registry(by_name=True)
    registry.add(
        Collected(
            "workqueue_adds_total",
            "[ALPHA] Total number of adds handled by workqueue",
            "counter",
            ("name",),
            lambda: values(lambda queue: queue.adds),
        ),
        Collected(
            "workqueue_retries_total",
            "[ALPHA] Total number of retries handled by workqueue",
            "counter",
            ("name",),
            lambda: values(lambda queue: queue.retries),
        ),
        Collected(
            "workqueue_depth",
            "[ALPHA] Current depth of workqueue",
            "gauge",
            ("name",),
            lambda: values(len),
        ),
        build_info(version_info()),
        *process_metrics(),
    )
    return registry
