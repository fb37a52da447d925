"""``/metrics`` of the controllers: their work queues, under client-go's names, and the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import Registry, about_metrics, build_info, process_metrics
from pilothouse.componentbase.version import version_info
from pilothouse.kubeclient.workqueue import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.kubeclient.workqueue.queue import WorkQueue


def queue_metrics(queues: Callable[[], Iterable[WorkQueue[str]]]) -> Registry:
    """``queues`` gives those that there are when somebody asks."""
    registry = Registry(by_name=True)
    registry.add(*metrics.queue_metrics(queues), build_info(version_info()), *process_metrics())
    registry.add(*about_metrics(registry))
    return registry
