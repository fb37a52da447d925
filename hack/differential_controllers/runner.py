"""Runs a file of scenarios in a world."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import Any

from hack.differential_controllers import worlds
from hack.differential_controllers.scenarios import Group
from hack.differential_controllers.steps import CLUSTER, LABEL, Run
from hack.differential_controllers.worlds import World
from pilothouse.apimachinery.errors import StatusError
from pilothouse.kubeclient import resources
from pilothouse.kubeclient.interfaces import DeleteOptions, ListOptions

Seen = dict[str, Any]


async def in_ours(group: Group, only: str = "") -> Seen:
    async with worlds.ours(group.settings) as world:
        return await _run(group, world, only)


async def in_upstreams(group: Group, only: str = "") -> Seen:
    async with worlds.upstream(group.settings) as world:
        return await _run(group, world, only)


async def _run(group: Group, world: World, only: str) -> Seen:
    shared = Run(world, "nodes", group.templates, 0, shared_nodes=False)
    for node in group.nodes:
        await shared.make(node)
    await world.quiet("", 1.0)
    limit = asyncio.Semaphore(1 if group.alone else world.at_once)
    wanted = [name for name in group.scenarios if name.startswith(tuple(only.split(",")))]

    async def one(number: int, name: str) -> tuple[str, Any]:
        async with limit:
            began = time.monotonic()
            run = Run(world, name, group.templates, number + 1, shared_nodes=not group.alone)
            try:
                seen: Any = await run.all(group.scenarios[name])
            except Exception as error:
                raise RuntimeError(f"{group.name}/{name}, step {run._step}: {error!r}") from error
            if group.alone:
                await _clean(world, run)
            if world.at_once > 1:
                took = time.monotonic() - began
                print(f"… {group.name}/{name}: {took:.1f} s", file=sys.stderr, flush=True)
            return name, seen

    return dict(await asyncio.gather(*(one(*item) for item in enumerate(wanted))))


async def _clean(world: World, run: Run) -> None:
    """Nothing of a scenario is left for the next one."""
    client = world.client
    try:
        await client.delete(resources.NAMESPACES, run.name)
    except StatusError as error:
        if error.code not in (404, 409):
            raise
    for resource in CLUSTER:
        try:
            listed = await client.list(resource, options=ListOptions(f"{LABEL}={run.name}"))
        except StatusError:
            continue
        for obj in listed.items:
            name = obj["metadata"]["name"]
            with suppress(StatusError):  # its deletion is under way
                await client.delete(resource, name, options=DeleteOptions(0))
                if obj["metadata"].get("finalizers"):
                    patch = {"metadata": {"finalizers": None}}
                    await client.patch(resource, name, patch, "application/merge-patch+json")
    for _ in range(60):
        await run.kubelet.run(quiet=0.3)
        try:
            await client.get(resources.NAMESPACES, run.name)
        except StatusError:
            break
    await world.quiet("", 0.5)
    await client.delete_collection(resources.EVENTS, "default")
