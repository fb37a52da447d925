"""The load generator: a process that takes jobs as JSON lines and answers with JSON lines.

It is told the server's process ids and reads their CPU time itself, right before the first
request and right after the last answer, so that neither handshakes nor this process' own start
count. Jobs: ``setup``, ``closed`` (every connection keeps one request in flight), ``watch``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from hack.bench import requests
from hack.bench.http_client import Caller, PodFollower, Watcher, newest_version, summary
from hack.bench.process_stats import cpu_seconds, percentile

_HANDSHAKES = 32
_WRITERS = 4


class Generator:
    """Runs jobs against one server."""

    def __init__(self, target: dict[str, Any]) -> None:
        self.host, self.port = target["host"], target["port"]
        self.pids: list[int] = target["pids"]
        self.tls = ssl.create_default_context(cafile=target["ca"])
        self.tls.check_hostname = False
        self.tls.load_cert_chain(target["cert"], target["key"])
        self.callers: list[Caller] = []

    async def connect(self, count: int) -> list[Caller]:
        loop = asyncio.get_running_loop()
        # Between jobs nothing here runs: connections that were closed meanwhile are noticed now.
        await asyncio.sleep(0.01)
        self.callers = [c for c in self.callers if not c.transport.is_closing()]
        while len(self.callers) < count:
            _, caller = await loop.create_connection(Caller, self.host, self.port, ssl=self.tls)
            self.callers.append(caller)
        for caller in self.callers:
            caller.latencies, caller.failures, caller.received = [], {}, 0
            caller.first_failure = b""
        return self.callers[:count]

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["job"] == "setup":
            return await self.setup(job.get("objects", True))
        if job["job"] == "nodes":
            if "template" in job:
                made = requests.templated_nodes(job["count"], job["template"], job["zones"])
            else:
                made = requests.node_requests(job["count"])
            # A node's two requests one after the other, on one connection.
            pairs = iter(list(zip(made[::2], made[1::2], strict=True)))
            callers = await self.connect(job.get("connections", 1))
            await asyncio.gather(*(c.run(itertools.chain.from_iterable(pairs)) for c in callers))
            return summary(callers)
        if job["job"] == "pods":
            return await self.pods(job)
        if job["job"] == "watch":
            return await self.watch(job)
        return await self.closed(job)

    async def setup(self, objects: bool) -> dict[str, Any]:
        (caller,) = await self.connect(1)
        if not objects:
            # With controllers the ServiceAccount is there already: that 409 is none.
            await caller.run(iter(requests.setup_requests()[:2]))
            return {}
        targets = map(requests.create_target, range(requests.TARGETS))
        applied = map(requests.apply_config_map, range(requests.TARGETS))
        await caller.run(itertools.chain(requests.setup_requests(), targets, applied))
        return summary([caller])

    async def closed(self, job: dict[str, Any]) -> dict[str, Any]:
        """Up to ``count`` requests or ``seconds``, whichever ends first."""
        callers = await self.connect(job["connections"])
        build = requests.OPERATIONS[job["operation"]]
        made = [build(job["start"] + n) for n in range(job["count"])]
        cpu, wall = cpu_seconds(self.pids), time.perf_counter()
        stream = until(iter(made), wall + job["seconds"])
        await asyncio.gather(*(caller.run(stream) for caller in callers))
        wall, cpu = time.perf_counter() - wall, cpu_seconds(self.pids) - cpu
        latencies = [value for caller in callers for value in caller.latencies]
        return {
            "operations": len(latencies),
            "seconds": wall,
            "cpu": cpu,
            "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99),
        } | summary(callers)

    async def watch(self, job: dict[str, Any]) -> dict[str, Any]:
        """``watchers`` follow a pod that is patched ``rate`` times a second. The same patches
        without watchers come first, so that what they cost can be taken off."""
        seconds, rate = job["seconds"], job["rate"]
        alone = await self._write(rate, seconds)
        watchers = await self._open_watchers(job["watchers"])
        await asyncio.sleep(0.3)
        cpu = cpu_seconds(self.pids)
        written = await self._write(rate, seconds)
        expected = written["operations"] * len(watchers)
        deadline = time.perf_counter() + 3
        # An asyncio.Event for each delivery would cost more than this.
        while sum(w.events for w in watchers) < expected and time.perf_counter() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        cpu = cpu_seconds(self.pids) - cpu
        delivered = sum(w.events for w in watchers)
        cut = sum(w.cut for w in watchers)
        for watcher in watchers:
            watcher.transport.abort()
        patches = alone["cpu"] / max(1, alone["operations"]) * written["operations"]
        lags = [lag for watcher in watchers for lag in watcher.lags]
        return {
            "operations": delivered,
            "expected": expected,
            "cut": cut,
            "seconds": written["seconds"],
            "cpu": cpu,
            "cpu_without_patches": max(0.0, cpu - patches),
            "p50": percentile(lags, 0.5),
            "p99": percentile(lags, 0.99),
            "failures": written["failures"],
            "first_failure": written["first_failure"],
        }

    async def _open_watchers(self, count: int) -> list[Watcher]:
        (caller,) = await self.connect(1)
        caller.keep = bytearray()
        path = f"/api/v1/namespaces/{requests.WATCHED}/pods?limit=1"
        await caller.run(iter([requests.encode("GET", path)]))
        version, caller.keep = newest_version(bytes(caller.keep)), None
        loop = asyncio.get_running_loop()
        watchers: list[Watcher] = []
        while len(watchers) < count:
            batch = range(len(watchers), min(count, len(watchers) + _HANDSHAKES))
            made = await asyncio.gather(
                *(
                    loop.create_connection(
                        lambda n=n: Watcher(version, requests.watch_request, n % 50 == 0),  # type: ignore[misc]
                        self.host,
                        self.port,
                        ssl=self.tls,
                    )
                    for n in batch
                )
            )
            watchers += [watcher for _, watcher in made]
        # kube-apiserver sends the head of a watch with its first event: don't wait for it long.
        await asyncio.wait([w.open for w in watchers], timeout=1.0)
        return watchers

    async def pods(self, job: dict[str, Any]) -> dict[str, Any]:
        """Creates ``count`` pods and waits until each is ``bound`` or ``running``; ``serial``: one
        after the other; ``pace``: so many a second. The rate is from the first create to the last
        pod there."""
        prefix = job.get("prefix", "run")
        if "template" in job:
            template = job["template"]
            made = [requests.templated_pod(f"{prefix}-{n}", template) for n in range(job["count"])]
        else:
            make = requests.real_pod if job.get("real") else requests.started_pod
            made = [make(n, job["image"]) for n in range(job["count"])]
        loop = asyncio.get_running_loop()
        follower = PodFollower(job["until"], job["count"], prefix)
        following = loop.create_task(self._follow(follower))
        cpu, wall = cpu_seconds(self.pids), time.perf_counter()
        deadline = wall + job["seconds"]
        if job.get("serial"):
            callers = await self.connect(1)
            for n, request in enumerate(made):
                follower.sent(f"run-{n}")
                await callers[0].run(iter([request]))
                await follower.reached(n + 1, deadline)
        elif "pace" in job:
            callers = await self.connect(job["connections"])
            await self._paced(callers, follower.noting(iter(made)), job["pace"])
            await follower.reached(job["count"], deadline)
        else:
            callers = await self.connect(job["connections"])
            stream = follower.noting(until(iter(made), deadline))
            await asyncio.gather(*(caller.run(stream) for caller in callers))
            await follower.reached(job["count"], deadline)
        wall, cpu = time.perf_counter() - wall, cpu_seconds(self.pids) - cpu
        following.cancel()
        follower.transport.abort()
        times = list(follower.times.values())
        return {
            "operations": len(times),
            "seconds": wall,
            "cpu": cpu,
            "p50": percentile(times, 0.5),
            "p99": percentile(times, 0.99),
        } | summary(callers)

    async def _paced(self, callers: list[Caller], stream: Iterator[bytes], pace: float) -> None:
        began = time.perf_counter()
        running: list[asyncio.Future[None]] = []
        for number, caller in enumerate(itertools.cycle(callers)):
            await asyncio.sleep(max(began + number / pace - time.perf_counter(), 0))
            if len(running) >= len(callers):
                await running[-len(callers)]
            request = next(stream, None)
            if request is None:
                break
            running.append(caller.run(iter([request])))
        await asyncio.gather(*running)

    async def _follow(self, follower: PodFollower) -> None:
        loop = asyncio.get_running_loop()
        while True:
            follower.cut.clear()
            await loop.create_connection(lambda: follower, self.host, self.port, ssl=self.tls)
            await follower.cut.wait()

    async def _write(self, rate: float, seconds: float) -> dict[str, Any]:
        callers = await self.connect(_WRITERS)
        cpu, began = cpu_seconds(self.pids), time.perf_counter()
        running: dict[Caller, asyncio.Future[None]] = {}
        for number in range(int(rate * seconds)):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            while not (free := [c for c in callers if c not in running or running[c].done()]):
                await asyncio.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
            request = requests.watched_patch(time.perf_counter_ns())
            running[free[0]] = free[0].run(iter([request]))
        if running:
            await asyncio.wait(running.values())
        latencies = [value for caller in callers for value in caller.latencies]
        return {
            "operations": len(latencies),
            "seconds": time.perf_counter() - began,
            "cpu": cpu_seconds(self.pids) - cpu,
        } | summary(callers)


def until(stream: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    for request in stream:
        if time.perf_counter() > deadline:
            return
        yield request


def main() -> None:
    loop = uvloop.new_event_loop()
    generator = Generator(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        try:
            answer = loop.run_until_complete(generator.run(json.loads(line)))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
