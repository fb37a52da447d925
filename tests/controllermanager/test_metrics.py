"""The controllers' work queues on /metrics."""

from __future__ import annotations

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.controllermanager.metrics import queue_metrics
from pilothouse.kubeclient.workqueue import WorkQueue


def test_queues() -> None:
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue("deployment", clock)
    for key in ("a", "b", "a"):
        queue.add(key)
    queue.add_rate_limited("c")
    text = queue_metrics(lambda: [queue]).text()
    assert 'workqueue_adds_total{name="deployment"} 2' in text
    assert 'workqueue_depth{name="deployment"} 2' in text
    assert 'workqueue_retries_total{name="deployment"} 1' in text
    assert "process_open_fds" in text and "kubernetes_build_info" in text
    queue.shut_down()
