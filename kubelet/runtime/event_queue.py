"""Runtime events to any number of listeners; shared by the runtimes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.kubelet.runtime.interfaces import RuntimeEvent


class EventFanout:
    """``emit`` puts into every listener's queue at once; ``close`` ends all of them."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[RuntimeEvent | None]] = []

    def emit(self, event: RuntimeEvent) -> None:
        for queue in self._queues:
            queue.put_nowait(event)

    def listen(self) -> AsyncIterator[RuntimeEvent]:
        """Events from this call on (not from the first ``anext``)."""
        queue: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue()
        self._queues.append(queue)
        return self._drain(queue)

    async def _drain(
        self, queue: asyncio.Queue[RuntimeEvent | None]
    ) -> AsyncIterator[RuntimeEvent]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            if queue in self._queues:
                self._queues.remove(queue)

    def close(self) -> None:
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()
