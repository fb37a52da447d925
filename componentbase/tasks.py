"""Every task has an owner: start tasks here, nowhere else (lint enforces it).

A :class:`TaskOwner` names its tasks, logs and reports the first crash, and cancels and awaits
all of them on close, newest first. Long-lived parts (a controller, a kubelet) hold one each.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = logging.getLogger(__name__)


class TaskOwner:
    """A named set of tasks that live no longer than their owner."""

    def __init__(self, name: str, on_crash: Callable[[str, BaseException], None] | None = None):
        self.name = name
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._on_crash = on_crash
        self._closing = False

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Runs ``coroutine`` as ``<owner>/<name>``. An exception is logged and reported."""
        if self._closing:
            coroutine.close()
            raise RuntimeError(f"{self.name} is closing; {name} was not started")
        task = asyncio.create_task(coroutine, name=f"{self.name}/{name}")
        self._tasks[task] = None
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("task %s crashed", task.get_name(), exc_info=error)
            if self._on_crash:
                self._on_crash(task.get_name(), error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancels all tasks and waits until each has ended."""
        self._closing = True
        while self._tasks:
            tasks = list(reversed(self._tasks))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
