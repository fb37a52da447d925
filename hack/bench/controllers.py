"""Scheduler and controllers side by side: Pilothouse and the reference, the same work for both.

    python -m hack.bench.controllers [--quick] [--only deployment,namespace,garbage] [-o json]
    python -m hack.bench.controllers --only scale [--nodes 1000 --pods 10000] [--seconds 600]

Nodes are objects whose kubelet is this process: it renews leases, makes bound pods Ready and lets
deleted ones go, for both sides alike. A step's seconds are a user's; its CPU is of all processes of
the control plane, the store included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hack.bench import targets
from hack.bench.process_stats import cpu_seconds, pss_megabytes
from hack.bench.targets import NotAvailable, Target
from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.timefmt import format_micro_time, format_time
from pilothouse.kubeclient.https import HTTPSClient
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.kubeconfig import ClientConfig
from pilothouse.kubeclient.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
)

CONNECTIONS = 16
LEASE_NAMESPACE = "kube-node-lease"
STRATEGIC: Literal["application/strategic-merge-patch+json"] = (
    "application/strategic-merge-patch+json"
)
GOALS = {
    "deployment created, all bound": 0.5,
    "rolling update": 0.5,
    "namespace deleted": 0.3,
    "garbage collected": 0.5,
    "many nodes and pods": 0.5,
    "many nodes and pods, 20 idle seconds": 0.5,
}
LIMIT = 600.0
"""Seconds that a step may take."""


@dataclass
class Step:
    name: str
    seconds: float
    cpu: float
    memory: float


async def each(things: Iterable[Any], action: Callable[[Any], Awaitable[Any]]) -> None:
    """``action`` on all things, a few at a time."""
    stream = iter(things)

    async def work() -> None:
        for thing in stream:
            await action(thing)

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


class Kubelets:
    """Of all nodes: what kwok does."""

    def __init__(self, client: HTTPSClient, nodes: int) -> None:
        self._client, self._nodes = client, [f"node-{i:04}" for i in range(nodes)]
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.bound: set[str] = set()
        self.present: set[str] = set()
        self.ready: set[str] = set()
        """Taken up by the kubelet."""
        self.running: set[str] = set()
        self.changed = asyncio.Event()

    async def start(self) -> None:
        await each(self._nodes, self._register)
        jobs = [self._follow(), self._renew(), *(self._work() for _ in range(CONNECTIONS))]
        self._tasks = [asyncio.create_task(job) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(_report)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """:raises TimeoutError:"""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def _register(self, name: str) -> None:
        resources = {"cpu": "1000", "memory": "1000Gi", "pods": "1000"}
        now = format_time(RealClock().now())
        condition = {
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }  # fmt: skip
        node = {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"capacity": resources, "allocatable": resources,
                       "conditions": [condition]},
        }  # fmt: skip
        await self._client.create(NODES, node)
        await self._lease(name)

    async def _lease(self, name: str) -> None:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40,
                "renewTime": format_micro_time(RealClock().now())}  # fmt: skip
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                 "metadata": {"name": name}, "spec": spec}  # fmt: skip
        try:
            await self._client.patch(
                LEASES, name, {"spec": spec}, "application/merge-patch+json", LEASE_NAMESPACE
            )
        except StatusError as error:
            if error.code != 404:
                raise
            await self._client.create(LEASES, lease, LEASE_NAMESPACE)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(10)
            await each(self._nodes, self._lease)

    async def _follow(self) -> None:
        """A server may end a watch at any time: then all is read again."""
        while True:
            try:
                watch = await self._client.watch(PODS, send_initial_events=True)
            except StatusError as error:
                progress(f"pods could not be watched: {error}")
                await asyncio.sleep(1)
                continue
            self.bound.clear()
            self.present.clear()
            self.running.clear()
            async for batch in watch:
                for event in batch:
                    if event.type in ("ADDED", "MODIFIED", "DELETED"):
                        self._note(event.type, event.object)
                self.changed.set()

    def _note(self, type_: str, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        if type_ == "DELETED":
            for pods in (self.bound, self.present, self.ready, self.running):
                pods.discard(uid)
            return
        self.present.add(uid)
        if not pod["spec"].get("nodeName"):
            return
        self.bound.add(uid)
        if pod["status"].get("phase") == "Running":
            self.running.add(uid)
        if pod["metadata"].get("deletionTimestamp"):
            self._queue.put_nowait(("delete", pod))
        elif pod["status"].get("phase") == "Pending" and uid not in self.ready:
            self.ready.add(uid)
            self._queue.put_nowait(("run", pod))

    async def _work(self) -> None:
        while True:
            verb, pod = await self._queue.get()
            with suppress(StatusError):
                await (self._run(pod) if verb == "run" else self._delete(pod))

    async def _run(self, pod: dict[str, Any]) -> None:
        now = format_time(RealClock().now())
        number = len(self.ready)
        status = {
            "phase": "Running", "startTime": now,
            "podIP": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "conditions": [{"type": t, "status": "True", "lastTransitionTime": now}
                           for t in ("Ready", "ContainersReady", "Initialized")],
        }  # fmt: skip
        metadata = pod["metadata"]
        await self._client.patch(
            PODS, metadata["name"], {"status": status}, STRATEGIC, metadata["namespace"],
            subresource="status",
        )  # fmt: skip

    async def _delete(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        options = DeleteOptions(grace_period_seconds=0)
        await self._client.delete(PODS, metadata["name"], metadata["namespace"], options)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        progress(f"a kubelet ended: {task.exception()!r}")


class Bench:
    """One target's run."""

    def __init__(self, target: Target, client: HTTPSClient, options: argparse.Namespace) -> None:
        self.target, self.client, self.quick = target, client, options.quick
        self.options = options
        self.steps: list[Step] = []

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        cpu, began = cpu_seconds(self.target.pids), time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        await asyncio.sleep(1.0)  # what is written after the user's moment counts as CPU, too
        spent = cpu_seconds(self.target.pids) - cpu
        self.steps.append(Step(name, seconds, spent, pss_megabytes(self.target.pids)))
        progress(f"{self.target.name}: {name}: {seconds:.2f} s, CPU {spent:.2f} s")

    async def deployment(self) -> None:
        replicas = 200 if self.quick else 1000
        kubelets = Kubelets(self.client, 10)
        await kubelets.start()
        try:
            async with self.step("deployment created, all bound"):
                await self.client.create(DEPLOYMENTS, deployment(replicas), "default")
                await kubelets.until(lambda: len(kubelets.bound) >= replicas, 300)
            await self._rolled_out(replicas, 1)
            async with self.step("rolling update"):
                patch = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
                await self.client.patch(DEPLOYMENTS, "web", patch, STRATEGIC, "default")
                await self._rolled_out(replicas, 2)
            await self.client.delete(DEPLOYMENTS, "web", "default")
            await kubelets.until(lambda: not kubelets.present, 300)
        finally:
            await kubelets.stop()

    async def _rolled_out(self, replicas: int, generation: int) -> None:
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        async with asyncio.timeout(600):
            while True:
                watch = await self.client.watch(DEPLOYMENTS, "default", send_initial_events=True)
                async for batch in watch:
                    for event in batch:
                        status = event.object.get("status", {})
                        if status.get("observedGeneration", 0) >= generation and all(
                            status.get(name) == replicas for name in counts
                        ):
                            await watch.close()
                            return

    async def namespace(self) -> None:
        count = 200 if self.quick else 1000
        await self._make_namespace("full")
        half = count // 2
        await each(range(half), lambda n: self.client.create(CONFIG_MAPS, config_map(n), "full"))
        await each(range(half), lambda n: self.client.create(SECRETS, secret(n), "full"))
        async with self.step("namespace deleted"):
            watch = await self.client.watch(NAMESPACES, send_initial_events=True)
            await self.client.delete(NAMESPACES, "full")
            async with asyncio.timeout(300):
                await gone(watch, "full")

    async def _make_namespace(self, name: str) -> None:
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.client.create(NAMESPACES, made)
        await asyncio.sleep(1.0)

    async def garbage(self) -> None:
        count = 1000 if self.quick else 5000
        await self._make_namespace("litter")
        owner = await self.client.create(CONFIG_MAPS, config_map("owner"), "litter")
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
                     "uid": owner["metadata"]["uid"]}  # fmt: skip
        await each(
            range(count),
            lambda n: self.client.create(CONFIG_MAPS, config_map(n, reference), "litter"),
        )
        await asyncio.sleep(3.0)
        watch = await self.client.watch(CONFIG_MAPS, "litter", send_initial_events=True)
        async with self.step("garbage collected"):
            await self.client.delete(CONFIG_MAPS, owner["metadata"]["name"], "litter")
            left = count + 1
            async with asyncio.timeout(600):
                async for batch in watch:
                    left -= sum(event.type == "DELETED" for event in batch)
                    if left <= 0:
                        break
        await watch.close()

    async def scale(self) -> None:
        nodes = self.options.nodes or (100 if self.quick else 1000)
        pods = self.options.pods or (1000 if self.quick else 10_000)
        kubelets = Kubelets(self.client, nodes)
        async with self.step("many nodes registered"):
            await kubelets.start()
        try:
            async with self.step("many nodes and pods"):
                for number in range(10):
                    made = deployment(pods // 10, f"web-{number}")
                    await self.client.create(DEPLOYMENTS, made, "default")
                await kubelets.until(lambda: len(kubelets.running) >= pods, self.options.seconds)
            async with self.step("many nodes and pods, 20 idle seconds"):
                await asyncio.sleep(20)
        except TimeoutError:
            progress(f"{self.target.name}: {len(kubelets.running)} of {pods} pods were running")
            raise
        finally:
            await kubelets.stop()


async def gone(watch: Any, name: str) -> None:
    async for batch in watch:
        for event in batch:
            if event.type == "DELETED" and event.object["metadata"]["name"] == name:
                await watch.close()
                return


def deployment(replicas: int, name: str = "web") -> dict[str, Any]:
    container = {"name": "c", "image": "pause", "resources": {"requests": {"cpu": "10m"}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": template}  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": spec}  # fmt: skip


def config_map(name: int | str, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": f"config-{name}"}
    if owner:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}


def secret(name: int) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"secret-{name}"},
            "stringData": {"a": "b"}}  # fmt: skip


def progress(message: str) -> None:
    print(f"… {message}", file=sys.stderr, flush=True)


def client_config(target: Target) -> ClientConfig:
    ca, cert, key = (Path(path).read_bytes() for path in (target.ca, target.cert, target.key))
    return ClientConfig(f"https://{target.host}:{target.port}", ca, cert, key, timeout=120)


async def measure(target: Target, options: argparse.Namespace) -> list[Step]:
    client = HTTPSClient(client_config(target))
    bench = Bench(target, client, options)
    try:
        for name in options.only.split(","):
            try:
                await getattr(bench, name)()
            except TimeoutError:
                progress(f"{target.name}: {name} did not end in time")
    finally:
        await client.close()
    return bench.steps


def table(results: dict[str, list[Step]]) -> str:
    lines = [
        "step | " + " | ".join(results) + " | time | CPU | memory | goal",
        "---|" * (len(results) + 5),
    ]
    names = list(dict.fromkeys(step.name for steps in results.values() for step in steps))
    for name in names:
        found = {t: s for t, steps in results.items() for s in steps if s.name == name}
        cells = [
            f"{s.seconds:.2f} s, CPU {s.cpu:.2f} s, {s.memory:.0f} MB"
            if (s := found.get(target))
            else "-"
            for target in results
        ]
        ours, theirs = found.get("pilothouse"), found.get("reference")
        ratios = ["-", "-", "-"]
        if ours and theirs:
            ratios = [f"{ours.seconds / theirs.seconds:.2f}x",
                      f"{ours.cpu / max(theirs.cpu, 0.01):.2f}x",
                      f"{ours.memory / theirs.memory:.2f}x"]  # fmt: skip
        goal = f"{GOALS[name]}x" if name in GOALS else ""
        lines.append(" | ".join([name, *cells, *ratios, goal]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hack.bench.controllers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the objects")
    parser.add_argument("--only", default="deployment,namespace,garbage", metavar="LIST",
                        help="deployment, namespace, garbage, scale")  # fmt: skip
    parser.add_argument("--nodes", type=int, default=0, help="of scale (1000, quick: 100)")
    parser.add_argument("--pods", type=int, default=0, help="of scale (10000, quick: 1000)")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="limit of a step of scale")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--no-pilothouse", action="store_true")
    parser.add_argument("--storage", default="sqlite", choices=("sqlite", "memory", "etcd"))
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    args = parser.parse_args()
    parts = "apiserver,scheduler,controller-manager"
    starts: dict[str, Callable[[], Target]] = {}
    if not args.no_pilothouse:
        starts["pilothouse"] = lambda: targets.pilothouse(parts, storage=args.storage)
    if not args.no_reference:
        starts["reference"] = lambda: targets.reference("scheduler", "controller-manager")
    results: dict[str, list[Step]] = {}
    for name, start in starts.items():
        try:
            target = start()
        except NotAvailable as error:
            progress(str(error))
            continue
        try:
            time.sleep(3.0)
            results[name] = asyncio.run(measure(target, args))
        finally:
            target.close()
    if args.output == "json":
        print(json.dumps({k: [asdict(s) for s in v] for k, v in results.items()}))
    else:
        print(table(results))


if __name__ == "__main__":
    main()
