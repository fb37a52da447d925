"""PrioritySort: the queue's order. Higher priority first, then who has waited longest.

The queue (``queueing/scheduling_queue.py``) keeps this order itself; the plugin names it.
"""

from __future__ import annotations

from pilothouse.scheduler.queueing.scheduling_queue import QueuedPod


class PrioritySort:
    name = "PrioritySort"

    def less(self, one: QueuedPod, other: QueuedPod) -> bool:
        """Whether ``one`` is tried before ``other``."""
        return (-one.pod.priority, one.added) < (-other.pod.priority, other.added)
