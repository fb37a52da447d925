"""Asks kubelets how much is used, when somebody wants to know.

Nothing is sampled in between: the windows are as long as the time between two questions, and a
first question takes a second sample a moment later when the first one alone says nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.aggregator.metrics.usage import Window, parse_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.kubelet_connection import NodeConnector

log = logging.getLogger(__name__)

FRESH = 5.0
"""A sample this old is as good as a new one: many may ask at a time."""
FIRST_WINDOW = 1.0
_TIMEOUT = 10.0
_AT_ONCE = 64
_PATH, _QUERY = "/stats/summary", "only_cpu_and_memory=true"


class Sampler:
    def __init__(self, nodes: NodeConnector, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._windows: dict[str, Window] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def window(self, node: str) -> Window:
        found = self._windows.get(node)
        if found is None:
            found = self._windows[node] = Window()
        return found

    def forget_all_but(self, nodes: set[str]) -> None:
        for gone in set(self._windows) - nodes:
            del self._windows[gone]

    async def sample(
        self,
        nodes: Iterable[str],
        is_known: Callable[[], bool],
        outdated: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """Brings the windows of ``nodes`` up to date. ``outdated`` names those afterwards that
        have to be asked at once, however fresh their samples are; ``is_known`` tells whether all
        say enough: if not, they are asked once more. Nodes that don't answer are left as they
        are."""
        wanted = list(nodes)
        await asyncio.gather(*(self._refresh(node, FRESH) for node in wanted))
        await asyncio.gather(*(self._refresh(node, 0.0) for node in outdated()))
        if not is_known():
            await self._clock.sleep(FIRST_WINDOW)
            await asyncio.gather(*(self._refresh(node, FIRST_WINDOW / 2) for node in wanted))

    async def _refresh(self, node: str, age: float) -> None:
        newest = self.window(node).newest
        if newest is not None and self._clock.monotonic() - newest.at < age:
            return
        asking = self._asking.get(node)
        if asking is not None:
            await asyncio.shield(asking)
            return
        done = self._asking[node] = asyncio.get_running_loop().create_future()
        try:
            await self._ask(node)
        finally:
            del self._asking[node]
            done.set_result(None)

    async def _ask(self, node: str) -> None:
        try:
            async with self._slots, asyncio.timeout(_TIMEOUT):
                answer = await self._nodes.request(node, "GET", _PATH, _QUERY)
                body = answer.body
                if answer.chunks is not None:
                    body = b"".join([chunk async for chunk in answer.chunks])
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            clock = self._clock
            sample = parse_summary(orjson.loads(body), clock.monotonic(), clock.now())
        except (StatusError, OSError, ValueError, KeyError, TypeError) as error:
            log.debug("unable to read the usage of node %s: %s", node, error)
            return
        self.window(node).add(sample)
