"""Keys to be worked on, each by one worker at a time (client-go util/workqueue).

``queue`` holds the pure sets and the awaitable queue, ``rate_limiters`` the delays.
"""

from pilothouse.kubeclient.workqueue.queue import KeySets, WorkQueue

__all__ = ["KeySets", "WorkQueue"]
