"""Priority and fairness (server/filters/priority-and-fairness.go): before any work begins.

A request is classified, takes seats of its priority level or waits for them in a fair queue, and
then waits for its flow's turn on the event loop, when others are before it. Long answers give
the loop back between chunks. Who can't be queued gets 429 and is asked to come back.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.endpoints.responses import error_response
from pilothouse.apiserver.filters.deadline import is_long_running
from pilothouse.apiserver.filters.max_in_flight import READS, too_many_requests
from pilothouse.apiserver.flowcontrol.work_estimator import list_seats, watch_begins_with_a_list
from pilothouse.componentbase.histograms import FOLD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.flowcontrol.controller import Class, FlowController
    from pilothouse.apiserver.flowcontrol.queue_set import Seat
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

_SAMPLE = 5
"""Objects whose sizes stand for all of their kind."""


def _mean_bytes(cacher: Any) -> int:
    sizes = [len(entry.data) for entry in islice(cacher._cache.entries.values(), _SAMPLE)]
    return sum(sizes) // len(sizes)


def with_priority_and_fairness(server: Server, handler: Handler) -> Handler:
    control: FlowController | None = server.services.get("flowcontrol")
    if control is None:
        return handler
    filtering = _Filter(server, handler, control)
    return filtering.handle


class _Filter:
    def __init__(self, server: Server, handler: Handler, control: FlowController) -> None:
        self._server = server
        self._handler = handler
        self._control = control
        self._turns = control.turns
        self._running = server.services.setdefault("inflight", [0, 0])
        self._waiting = server.services.setdefault("inqueue", [0, 0])
        self._wait_limit = min(server.config.request_timeout / 4, 60.0)

    async def handle(self, request: Request) -> Response:
        info = request.info
        verb = info.verb
        if (info.subresource or verb == "proxy") and verb != "watch" and is_long_running(info):
            return await self._handler(request)
        assert request.user is not None
        control = self._control
        chosen = control.classify(request.user, info)
        kind = 0 if verb in READS else 1
        queues = chosen.queues
        now = perf_counter()
        seat = None
        woken = False
        if queues is not None:
            seats = 1
            if verb in ("list", "watch"):
                seats = self._list_seats(request, chosen)
                if seats > 1:
                    control.took_seats(chosen, seats)
            seat = queues.start(chosen.flow, seats, now)
            if control._timer is None:
                control.expect_adjustment()
            if seat is None:
                return self._rejected(chosen, "queue-full" if queues.queuing else None)
            if not seat.executing and not await self._seated(seat, chosen, kind):
                self._waited(chosen, now, executes=False)
                return self._rejected(chosen, "time-out")
            if not self._turns.may_run(chosen.flow, now):
                woken = True
                await self._turn(seat, chosen, kind)
                now = self._waited(chosen, now, executes=True)
        self._running[kind] += 1
        chosen.dispatched[0] += 1
        streaming = False
        try:
            response = await self._handler(request)
            if response.chunks is not None:
                streaming = True
                response.chunks = self._paced(response.chunks, chosen, seat)
        except StatusError as error:
            response = error_response(error, request)
        finally:
            end = perf_counter()
            self._running[kind] -= 1
            if seat is not None:
                self._turns.charge(chosen.flow, end - now, woken=woken)
                if not streaming:
                    assert queues is not None
                    queues.finish(seat, end)
        chosen.pending.append(end - now)
        if len(chosen.pending) >= FOLD:
            chosen.seconds.fold()
        response.headers += chosen.headers
        return response

    async def _seated(self, seat: Seat, chosen: Class, kind: int) -> bool:
        """Waits for seats; False: for too long."""
        assert chosen.queues is not None
        free: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        seat.execute = lambda: None if free.done() else free.set_result(True)

        def too_late() -> None:
            if not free.done():
                free.set_result(False)

        timer = self._server.clock.call_later(self._wait_limit, too_late)
        self._waiting[kind] += 1
        try:
            executes = await free
        except BaseException:
            # The client has gone.
            if seat.executing:
                chosen.queues.finish(seat, perf_counter())
            else:
                chosen.queues.cancel(seat, perf_counter())
            raise
        finally:
            timer.cancel()
            self._waiting[kind] -= 1
        if not executes:
            chosen.queues.cancel(seat, perf_counter())
        return executes

    async def _turn(self, seat: Seat, chosen: Class, kind: int) -> None:
        self._waiting[kind] += 1
        try:
            await self._turns.wait(chosen.flow)
        except BaseException:
            assert chosen.queues is not None
            chosen.queues.finish(seat, perf_counter())
            raise
        finally:
            self._waiting[kind] -= 1

    async def _paced(
        self, chunks: AsyncIterator[bytes], chosen: Class, seat: Seat | None
    ) -> AsyncIterator[bytes]:
        """A long answer, one stretch of it a turn of the loop."""
        turns, flow = self._turns, chosen.flow
        begin = perf_counter()
        woken = False
        try:
            async for chunk in chunks:
                yield chunk
                now = perf_counter()
                if not turns.may_run(flow, now):
                    turns.charge(flow, now - begin, woken=woken)
                    await turns.wait(flow)
                    woken = True
                    begin = perf_counter()
        finally:
            end = perf_counter()
            turns.charge(flow, end - begin, woken=woken)
            if seat is not None:
                assert chosen.queues is not None
                chosen.queues.finish(seat, end)
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _waited(self, chosen: Class, since: float, *, executes: bool) -> float:
        now = perf_counter()
        executed = "true" if executes else "false"
        labels = (chosen.level.name, chosen.schema, executed)
        self._control.wait_seconds.observe(now - since, *labels)
        return now

    def _list_seats(self, request: Request, chosen: Class) -> int:
        info = request.info
        if info.verb == "watch" and not watch_begins_with_a_list(request.query):
            return 1
        served = self._server.registry.lookup(info.api_group, info.api_version, info.resource)
        if served is None or info.subresource:
            return 1
        cacher = served.store.cacher
        objects = len(cacher)
        if not objects:
            return 1
        size = _mean_bytes(cacher)
        seats = list_seats(objects, size, request.query, single=bool(info.name))
        return min(seats, chosen.level.max_seats)

    def _rejected(self, chosen: Class, reason: str | None) -> Response:
        key = (chosen.level.name, chosen.schema, reason or "concurrency-limit")
        self._control.rejected[key] = self._control.rejected.get(key, 0) + 1
        response = too_many_requests()
        response.headers += chosen.headers
        return response
