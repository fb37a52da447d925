"""The queues of one priority level: who gets the next seats (fairqueuing/queueset). Pure.

Requests occupy seats while they execute. While there are free seats nobody waits and no queue
is touched. After that each flow's requests go to the shortest queue of its hand, and the queue
whose next request would finish first in virtual time is served: virtual time passes in
seat-seconds a queue, so that flows of one level get equal shares of its work.

One rule is not upstream's: a flow that executes nothing does not wait for the seats of others
(up to twice the limit). Here all requests share one event loop; seats bound memory, and the
loop's time is shared out by ``turns.py``. Without it a flow would wait for another's slowest
request.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apiserver.flowcontrol.allocation import Demand
from pilothouse.apiserver.flowcontrol.shuffle_sharding import deal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE_SECONDS = 0.003
"""What a request is thought to take until it has finished."""


@dataclass(frozen=True, slots=True)
class Queuing:
    queues: int
    hand_size: int
    length_limit: int


class Flow:
    """Requests that compete as one: a schema's name and a distinguisher."""

    __slots__ = (
        "cost", "executing", "hand", "hash", "in_heap", "seats_in_use", "vtime", "waiters",
        "weight",
    )  # fmt: skip

    def __init__(self, hashed: int, weight: float = 1.0) -> None:
        self.hash = hashed
        self.executing = 0
        self.seats_in_use = 0
        self.hand: tuple[int, ...] = ()
        # What turns.py knows of it:
        self.weight = weight
        self.vtime = 0.0
        self.cost = 0.0002
        self.waiters: deque[object] = deque()
        self.in_heap = False


class Seat:
    """One request's claim; ``execute`` is called when one that had to wait may go."""

    __slots__ = ("arrival", "execute", "executing", "flow", "queue", "seats", "started")

    def __init__(self, flow: Flow, seats: int) -> None:
        self.flow = flow
        self.seats = seats
        self.queue: _Queue | None = None
        self.executing = False
        self.arrival = 0.0
        """In virtual time."""
        self.started = 0.0
        self.execute: Callable[[], None] | None = None

    @property
    def work(self) -> float:
        return self.seats * SERVICE_SECONDS


class _Queue:
    __slots__ = ("executing", "next_start", "seats_in_use", "waiting", "work")

    def __init__(self) -> None:
        self.waiting: deque[Seat] = deque()
        self.work = 0.0
        """Of those that wait."""
        self.executing = 0
        self.seats_in_use = 0
        self.next_start = 0.0
        """Virtual time at which the next request would begin."""


class QueueSet:
    """``queuing`` None: whoever finds no seat is rejected."""

    def __init__(self, queuing: Queuing | None, limit: int, now: float) -> None:
        self.queuing = queuing
        self.limit = limit
        self.seats_in_use = 0
        self.executing = 0
        self.waiting = 0
        self.seats_waiting = 0
        self.demand = Demand(now)
        self._virtual = 0.0
        self._last = now
        self._queues: list[_Queue] = []
        self._busy: dict[_Queue, None] = {}
        """Queues in which something waits, in the order in which they became so."""
        self._active = 0
        """Queues in which something waits or executes."""
        self._enqueued = 0
        self.configure(queuing, limit, now)

    def configure(self, queuing: Queuing | None, limit: int, now: float) -> None:
        self._pass_time(now)
        if queuing is not None:
            missing = queuing.queues - len(self._queues)
            self._queues += [_Queue() for _ in range(missing)]
        self.queuing = queuing
        self.limit = limit
        self._dispatch(now)

    # the way in and out

    def start(self, flow: Flow, seats: int, now: float) -> Seat | None:
        """A claim that executes or waits; None: rejected."""
        free = self.limit - self.seats_in_use
        if (
            (not self.waiting and seats <= free)
            or (not flow.executing and self.queuing is not None and -free < self.limit)
            or (not self.executing and self.limit > 0)
        ):
            seat = Seat(flow, seats)
            seat.executing = True
            seat.started = now
            flow.executing += 1
            flow.seats_in_use += seats
            self.executing += 1
            self.seats_in_use += seats
            self.demand.note(self.seats_in_use + self.seats_waiting, now)
            return seat
        return self._enqueue(flow, seats, now)

    def finish(self, seat: Seat, now: float) -> None:
        flow = seat.flow
        flow.executing -= 1
        flow.seats_in_use -= seat.seats
        self.executing -= 1
        self.seats_in_use -= seat.seats
        queue = seat.queue
        if queue is not None:
            self._pass_time(now)
            queue.executing -= 1
            queue.seats_in_use -= seat.seats
            # What it really took takes the place of the estimate.
            queue.next_start -= seat.seats * (SERVICE_SECONDS - (now - seat.started))
            self._bound(queue)
            if not queue.executing and not queue.waiting:
                self._active -= 1
        if self.waiting:
            self._dispatch(now)
        self.demand.note(self.seats_in_use + self.seats_waiting, now)

    def cancel(self, seat: Seat, now: float) -> None:
        """The request of a waiting claim has gone, or has waited too long."""
        queue = seat.queue
        if seat.executing or queue is None:
            return
        self._pass_time(now)
        queue.waiting.remove(seat)
        self._left(queue, seat)
        if not queue.executing and not queue.waiting:
            self._active -= 1
        self._bound(queue)
        self._dispatch(now)
        self.demand.note(self.seats_in_use + self.seats_waiting, now)

    def waiting_seats(self) -> Iterator[Seat]:
        """The claims that wait."""
        return (seat for queue in self._busy for seat in queue.waiting)

    @property
    def virtual_time(self) -> float:
        return self._virtual

    # queues

    def _enqueue(self, flow: Flow, seats: int, now: float) -> Seat | None:
        queuing = self.queuing
        if queuing is None:
            return None
        self._pass_time(now)
        queue = self._shortest(flow, queuing)
        if len(queue.waiting) >= queuing.length_limit and self.seats_in_use >= self.limit:
            return None
        if not queue.waiting and not queue.executing:
            queue.next_start = self._virtual
            self._active += 1
        seat = Seat(flow, seats)
        seat.queue = queue
        seat.arrival = self._virtual
        queue.waiting.append(seat)
        queue.work += seat.work
        self._busy[queue] = None
        self.waiting += 1
        self.seats_waiting += seats
        self._bound(queue)
        self._dispatch(now)
        self.demand.note(self.seats_in_use + self.seats_waiting, now)
        return seat

    def _shortest(self, flow: Flow, queuing: Queuing) -> _Queue:
        """The queue of the flow's hand with the least work, beginning at another one each time."""
        if len(flow.hand) != queuing.hand_size or max(flow.hand) >= queuing.queues:
            flow.hand = deal(flow.hash, queuing.queues, queuing.hand_size)
        hand = flow.hand
        offset = self._enqueued % len(hand)
        self._enqueued += 1
        queues = [self._queues[card] for card in hand[offset:] + hand[:offset]]
        return min(queues, key=_work)

    def _left(self, queue: _Queue, seat: Seat) -> None:
        queue.work -= seat.work
        if not queue.waiting:
            self._busy.pop(queue, None)
        self.waiting -= 1
        self.seats_waiting -= seat.seats

    def _dispatch(self, now: float) -> None:
        while self.waiting:
            queue = min(self._busy, key=_finish)
            head = queue.waiting[0]
            if head.seats > self.limit - self.seats_in_use and self.executing:
                idle = self._idle_flow()
                if idle is None:
                    return
                queue, head = idle
            queue.waiting.popleft()
            self._left(queue, head)
            # Back of the round: queues of equal rank take turns.
            if queue.waiting:
                del self._busy[queue]
                self._busy[queue] = None
            head.executing = True
            head.started = now
            head.flow.executing += 1
            head.flow.seats_in_use += head.seats
            self.executing += 1
            self.seats_in_use += head.seats
            queue.executing += 1
            queue.seats_in_use += head.seats
            queue.next_start += head.work
            self._bound(queue)
            if head.execute is not None:
                head.execute()

    def _idle_flow(self) -> tuple[_Queue, Seat] | None:
        """A waiting flow that executes nothing, while there are not too many such."""
        if self.seats_in_use >= 2 * self.limit:
            return None
        found = [q for q in self._busy if not q.waiting[0].flow.executing]
        if not found:
            return None
        queue = min(found, key=_finish)
        return queue, queue.waiting[0]

    def _pass_time(self, now: float) -> None:
        """Virtual time passes as fast as a queue gets work done."""
        spent, self._last = now - self._last, now
        if self._active and spent > 0:
            wanted = min(self.seats_in_use + self.seats_waiting, self.limit)
            self._virtual += spent * wanted / self._active

    def _bound(self, queue: _Queue) -> None:
        """A queue can't save up time in which it asked for nothing."""
        if queue.waiting and queue.next_start < queue.waiting[0].arrival:
            queue.next_start = queue.waiting[0].arrival


def _work(queue: _Queue) -> float:
    return queue.work


def _finish(queue: _Queue) -> float:
    return queue.next_start + queue.waiting[0].work
