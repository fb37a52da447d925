"""The controllers die at random points of 200 operations and start anew: nobody can tell later.

A real API server, scheduler and two fake nodes, on a virtual clock; only the controller manager
is killed. It dies in the middle of a write, which was or was not done when its answer got lost.
``PILOTHOUSE_CRASH_SEEDS=1,2,7`` (or ``1-20``) runs it for other operations and other deaths.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from pilothouse import Cluster
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.virtual_clock import VirtualClock
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.controllermanager.config import ControllerManagerConfig
from pilothouse.controllermanager.manager import ControllerManager
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    JOBS,
    NAMESPACES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
)

START = datetime(2027, 3, 1, tzinfo=UTC)
OPERATIONS = 200
WRITES = ("create", "update", "patch", "delete", "delete_collection")
MERGE = "application/merge-patch+json"
KINDS = {
    "Deployment": DEPLOYMENTS,
    "StatefulSet": STATEFUL_SETS,
    "DaemonSet": DAEMON_SETS,
    "Job": JOBS,
}


class MortalClient:
    """A client whose process dies in the middle of the write that the countdown names."""

    def __init__(self, client: Any, life: Life) -> None:
        self._client, self._life = client, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in WRITES:
            return method

        async def write(*args: Any, **kwargs: Any) -> Any:
            life = self._life
            if life.dying:
                await asyncio.Future()
            life.left -= 1
            if life.left != 0:
                return await method(*args, **kwargs)
            life.dying = True
            if life.done_before_death:
                with contextlib.suppress(StatusError):
                    await method(*args, **kwargs)
            life.ended.set()
            await asyncio.Future()

        return write


class Life:
    """How many writes this process will live to see (0: for ever)."""

    def __init__(self, writes: int, done_before_death: bool) -> None:
        self.left, self.done_before_death = writes, done_before_death
        self.dying = False
        self.ended = asyncio.Event()


class Controllers:
    """The controller manager as a process that can die."""

    def __init__(self, cluster: Cluster, random: Random | None) -> None:
        self._core, self._random = cluster.core, random
        self.deaths = 0

    async def start(self, mortal: bool = True) -> None:
        random = self._random
        writes = random.randint(1, 120) if random is not None and mortal else 0
        self.life = Life(writes, random is not None and random.random() < 0.5)
        self.activity = ActivityTracker()
        client: Any = MortalClient(self._core.client, self.life)
        clock, rand = self._core.clock, self._core.random
        self.informers = SharedInformerFactory(client, clock, rand, self.activity)
        env = Environment(client, self.informers, clock, rand, self.activity)
        self.manager = ControllerManager(env, ControllerManagerConfig(root_ca="none"))
        await self.manager.start()

    async def stop(self) -> None:
        await self.manager.stop()
        await self.informers.stop()

    async def settle(self) -> None:
        """Until all is idle, with as many lives as that takes."""
        while True:
            idle = asyncio.ensure_future(self._idle())
            death = asyncio.ensure_future(self.life.ended.wait())
            await asyncio.wait((idle, death), return_when=asyncio.FIRST_COMPLETED)
            for waiter in (idle, death):
                waiter.cancel()
            if not self.life.dying:
                return idle.result()
            self.deaths += 1
            await self.stop()
            await self.start()

    async def _idle(self) -> None:
        ours, theirs = self.activity, self._core.activity
        while True:
            await theirs.settle()
            await ours.settle()
            if not theirs.busy():
                return

    async def advance(self, seconds: float) -> None:
        clock = self._core.clock
        await self.settle()
        target = clock.monotonic() + seconds
        while clock.step(target, heartbeats=False):
            await self.settle()


class Users:
    """The operations: decided by the seed alone, whatever the cluster does."""

    def __init__(self, client: Any, random: Random) -> None:
        self.client, self.random = client, random
        self.there: dict[tuple[str, str], str] = {}
        self.namespaces = ["default"]
        self.count = 0

    async def act(self) -> None:
        await self.random.choices(
            (self.create, self.change, self.delete, self.namespace), (8, 9, 4, 1)
        )[0]()

    async def create(self) -> None:
        kind = self.random.choice([*KINDS, "Service"])
        namespace = self.random.choice(self.namespaces)
        self.count += 1
        name = f"{kind.lower()}-{self.count}"
        if kind == "Service":
            served = [app for (_, app), where in self.there.items() if where == namespace]
            selector = {"app": self.random.choice([*served, "nobody"])}
            await self.client.create(SERVICES, service(name, selector), namespace)
            await self.client.create(POD_DISRUPTION_BUDGETS, budget(name, selector), namespace)
            return
        made = workload(kind, name, self.random)
        created = await self.client.create(KINDS[kind], made, namespace)
        self.there[kind, name] = namespace
        await self.client.create(CONFIG_MAPS, dependent(name, created), namespace)

    async def change(self) -> None:
        chosen = [key for key in self.there if key[0] != "Job"]
        if not chosen:
            return await self.create()
        kind, name = self.random.choice(chosen)
        patch: dict[str, Any] = {"spec": {"template": {"metadata": {
            "annotations": {"version": str(self.random.randint(1, 4))}}}}}  # fmt: skip
        if kind != "DaemonSet" and self.random.random() < 0.5:
            patch = {"spec": {"replicas": self.random.randint(0, 5)}}
        await self.client.patch(KINDS[kind], name, patch, MERGE, self.there[kind, name])

    async def delete(self) -> None:
        if not self.there:
            return
        kind, name = self.random.choice(list(self.there))
        policy = self.random.choice(("Background", "Foreground"))
        from pilothouse.kubeclient.interfaces import DeleteOptions

        await self.client.delete(
            KINDS[kind], name, self.there.pop((kind, name)),
            DeleteOptions(propagation_policy=policy),
        )  # fmt: skip

    async def namespace(self) -> None:
        if len(self.namespaces) > 2:
            gone = self.namespaces.pop()
            self.there = {key: where for key, where in self.there.items() if where != gone}
            await self.client.delete(NAMESPACES, gone)
            return
        self.count += 1
        name = f"team-{self.count}"
        self.namespaces.append(name)
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.client.create(NAMESPACES, made)


def workload(kind: str, name: str, random: Random) -> dict[str, Any]:
    labels = {"app": name}
    container: dict[str, Any] = {"name": "c", "image": "busybox"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    if kind == "Job":
        container["command"] = random.choice((["true"], ["sleep", "20"], ["false"]))
        template["spec"] |= {"restartPolicy": "Never"}
        spec: dict[str, Any] = {"completions": 3, "parallelism": 2, "backoffLimit": 2}
        if random.random() < 0.5:
            spec |= {"completionMode": "Indexed", "backoffLimitPerIndex": 1, "maxFailedIndexes": 3}
            del spec["backoffLimit"]
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                "spec": spec | {"template": template}}  # fmt: skip
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if kind != "DaemonSet":
        spec["replicas"] = random.randint(1, 4)
    if kind == "StatefulSet":
        spec |= {"serviceName": name, "podManagementPolicy": random.choice(
            ("OrderedReady", "Parallel"))}  # fmt: skip
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def service(name: str, selector: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": selector, "ports": [{"port": 80}]}}  # fmt: skip


def budget(name: str, selector: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": selector}}}  # fmt: skip


def dependent(name: str, owner: dict[str, Any]) -> dict[str, Any]:
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"],
                 "name": name, "uid": owner["metadata"]["uid"]}  # fmt: skip
    return {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [reference]}}  # fmt: skip


async def live(seed: int, dying: bool) -> tuple[dict[str, Any], int]:
    random = Random(seed)
    components = ("apiserver", "scheduler", "kubelet")
    async with Cluster(
        clock=VirtualClock(START), components=components, nodes=2, seed=seed
    ) as cluster:
        controllers = Controllers(cluster, Random(seed + 1) if dying else None)
        await controllers.start()
        users = Users(cluster.client, random)
        for _ in range(OPERATIONS):
            await users.act()
            if random.random() < 0.2:
                await controllers.advance(random.choice((1, 15, 40)))
            await controllers.settle()
        await controllers.advance(900)
        await controllers.stop()
        return await end_state(cluster.client), controllers.deaths


async def end_state(client: Any) -> dict[str, Any]:
    """All that a user can tell apart, without names, uids and times that are random anyway."""
    state: dict[str, Any] = {}
    for resource in (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS, JOBS, POD_DISRUPTION_BUDGETS):
        found = (await client.list(resource)).items
        state[resource.resource] = {where(o): essence(o) for o in found}
    for resource in (REPLICA_SETS, PODS):
        found = (await client.list(resource)).items
        state[resource.resource] = Counter(map(described, found))
    for resource in (NAMESPACES, CONFIG_MAPS, SERVICES):
        state[resource.resource] = sorted(map(where, (await client.list(resource)).items))
    slices = (await client.list(ENDPOINT_SLICES)).items
    counts: Counter[str] = Counter()
    for one in slices:
        labels = one["metadata"].get("labels") or {}
        name = f"{one['metadata']['namespace']}/{labels.get('kubernetes.io/service-name')}"
        counts[name] += len(one.get("endpoints") or ())
    state["endpoints"] = counts
    return state


def where(obj: dict[str, Any]) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


TIMES = ("startTime", "completionTime", "lastTransitionTime", "lastUpdateTime", "lastProbeTime")


def essence(obj: dict[str, Any]) -> Any:
    status = {k: v for k, v in obj["status"].items() if k not in (*TIMES, "conditions")}
    conditions = obj["status"].get("conditions") or ()
    status["conditions"] = sorted((c["type"], c["status"], c["reason"]) for c in conditions
                                  if "reason" in c)  # fmt: skip
    if "failed" in status and obj["spec"].get("backoffLimit") is not None:
        # Pods that were started side by side: the one beyond the limit may or may not have run.
        status["failed"] = min(status["failed"], obj["spec"]["backoffLimit"] + 1)
    return obj["spec"].get("replicas"), status


def described(obj: dict[str, Any]) -> str:
    owner = obj["metadata"]["ownerReferences"][0]
    name = owner["name"]
    template = obj["spec"].get("template", obj)
    version = (template["metadata"].get("annotations") or {}).get("version", "")
    status = obj["status"].get("phase", obj["spec"].get("replicas"))
    if obj["metadata"].get("deletionTimestamp"):
        status = f"{status}, deleted"
    return f"{obj['metadata']['namespace']}/{name} {version} {status}"


def seeds(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", list(seeds(os.environ.get("PILOTHOUSE_CRASH_SEEDS") or "1")))
async def test_nobody_can_tell_that_the_controllers_died(seed: int) -> None:
    calm, _ = await live(seed, dying=False)
    restless, deaths = await live(seed, dying=True)
    assert deaths > 20
    for kind, expected in calm.items():
        assert restless[kind] == expected, kind
    assert calm["pods"].total() > 10 and len(calm["jobs"]) > 1
