"""Fair shares of the event loop's time.

One loop serves all requests: whoever runs first holds up everybody else. So each turn of the
loop begins at most a budget's worth of work; what is over it waits, each flow in a line of its
own, and the next turn wakes the flow that has had the least of the loop's time (start-time fair
queuing, weighted). Long answers come back here between their chunks.

With nobody waiting and the budget not used up, ``may_run`` is three comparisons. A flow that has
had the loop to itself for a second is not held back, and one that has had less than all that wait
runs at once. Writes that short turns begin still share commits (``storage/sqlite.py``).
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apiserver.flowcontrol.queue_set import Flow

BUDGET = 0.0005
"""Seconds of work that one turn of the loop begins."""
ALONE_AFTER = 1.0
"""Seconds without a request of another flow."""
_MAX_CHARGE = 0.02
"""Of one run: longer ones have waited for something, and not held the loop."""
_LEAST_COST = 0.0001


class Turns:
    """The loop's turns of one server."""

    def __init__(self, budget: float = BUDGET) -> None:
        self.waiting = 0
        self._budget = budget
        self._deadline = 0.0
        self._early = budget
        self._open = False
        self._heap: list[tuple[float, int, Flow]] = []
        self._sequence = 0
        self._last: Flow | None = None
        self._shared_until = 0.0
        self._virtual = 0.0
        """The virtual time of the flow that was woken last."""

    def may_run(self, flow: Flow, now: float) -> bool:
        """True: run at once. False: ``await wait(flow)`` first."""
        if flow is not self._last:
            if self._last is not None:
                self._shared_until = now + ALONE_AFTER
            self._last = flow
        if self.waiting:
            return self._is_next(flow)
        if now >= self._shared_until:
            return True
        if self._open:
            return now < self._deadline
        self._begin(now)
        return True

    def _is_next(self, flow: Flow) -> bool:
        """Whether ``flow`` has had less of the loop than any that wait: then it need not wait for
        the turn that would wake it. A turn has room for a budget's worth of such."""
        if flow.waiters or self._early <= 0:
            return False
        at = max(flow.vtime, self._virtual)
        if at >= self._heap[0][0]:
            return False
        flow.vtime = at
        self._early -= max(flow.cost, _LEAST_COST)
        return True

    def _begin(self, now: float) -> None:
        self._open = True
        self._deadline = now + self._budget
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """The first thing of the loop's next turn."""
        self._open = False
        self._early = self._budget
        if not self.waiting:
            return
        left = self._budget - self._wake().cost
        while self.waiting and left > 0:
            left -= self._wake().cost
        # After the callbacks of those that were woken, before what the sockets bring.
        self._begin(perf_counter())

    def _wake(self) -> Flow:
        _, _, flow = heappop(self._heap)
        flow.in_heap = False
        self._virtual = max(self._virtual, flow.vtime)
        waiter = flow.waiters.popleft()
        self.waiting -= 1
        assert isinstance(waiter, asyncio.Future)
        if not waiter.done():
            waiter.set_result(None)
            # Until the real cost is known, so that one flow is not woken twice in a row.
            flow.vtime += flow.cost / flow.weight
        if flow.waiters:
            self._push(flow)
        return flow

    def _push(self, flow: Flow) -> None:
        self._sequence += 1
        flow.in_heap = True
        heappush(self._heap, (flow.vtime, self._sequence, flow))

    async def wait(self, flow: Flow) -> None:
        """Returns when it is this flow's turn."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        flow.waiters.append(waiter)
        self.waiting += 1
        if not flow.in_heap:
            flow.vtime = max(flow.vtime, self._virtual)
            self._push(flow)
        if not self._open:
            self._begin(perf_counter())
        await waiter

    def charge(self, flow: Flow, seconds: float, *, woken: bool) -> None:
        """What a run has taken; ``woken``: it came from ``wait``, which charged an estimate."""
        seconds = min(seconds, _MAX_CHARGE)
        flow.vtime += (seconds - flow.cost if woken else seconds) / flow.weight
        flow.cost += (seconds - flow.cost) * 0.125
