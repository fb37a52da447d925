"""What a CRD with 200 fields costs: processor time until it is served, memory as published and
with its objects in use, documents.

As a program it takes the number of them: python test_cost_of_definitions.py 500
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.serving.interfaces import HTTPRequest

CRDS = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def resident() -> int:
    """Kilobytes of memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError


def schema(number: int) -> dict[str, Any]:
    """Twenty groups of ten fields, each with a description."""
    groups = {}
    for group in range(20):
        fields = {
            f"field{group}x{index}": {
                "type": ("string", "integer", "boolean")[index % 3],
                "description": f"field {index} of {group} in {number}: when it is to be set",
            }
            for index in range(10)
        }
        groups[f"group{group}"] = {"type": "object", "properties": fields}
    rule = {"rule": "!has(self.group0) || self.group0.field0x0 != 'x'"}
    spec = {"type": "object", "properties": groups, "x-kubernetes-validations": [rule]}
    return {"type": "object", "properties": {"spec": spec}}


def definition(number: int) -> dict[str, Any]:
    group, plural = f"g{number % 20}.example.com", f"things{number}"
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema(number)},
    }
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": f"Thing{number}"},
            "versions": [version],
        },
    }


async def get(server: APIServer, path: str, accept: str = "application/json") -> int:
    request = HTTPRequest("GET", path.encode(), {"accept": accept})
    return (await server.edge.handle(request)).status


async def served(server: APIServer, number: int) -> None:
    path = f"/apis/g{number % 20}.example.com/v1/namespaces/default/things{number}"
    while await get(server, path) != 200:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def use(client: LocalClient, number: int) -> None:
    """What compiles all there is: one object, a field of each group, created, read, patched and
    applied."""
    group = f"g{number % 20}.example.com"
    resource = GroupVersionResource(group, "v1", f"things{number}")
    head = {"apiVersion": f"{group}/v1", "kind": f"Thing{number}"}
    spec = {f"group{i}": {f"field{i}x0": "y"} for i in range(20)}
    obj = {**head, "metadata": {"name": "a", "namespace": "default"}, "spec": spec}
    await client.create(resource, obj)
    await client.get(resource, "a", "default")
    merged = {"spec": {"group1": {"field1x1": 4}}}
    await client.patch(resource, "a", merged, "application/merge-patch+json", "default")
    applied = {**head, "spec": {"group2": {"field2x2": True}}}
    await client.patch(
        resource, "a", applied, "application/apply-patch+yaml", "default", field_manager="b"
    )


async def spent(server: APIServer, path: str, accept: str = "application/json") -> float:
    """Milliseconds of processor time."""
    start = time.process_time()
    assert await get(server, path, accept) == 200
    return (time.process_time() - start) * 1e3


async def measure(count: int) -> dict[str, float]:
    options: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    async with running_server(clock=RealClock(), **options) as server:
        client = server.local_client()
        await client.create(CRDS, definition(100_000))
        await served(server, 100_000)
        await use(client, 100_000)
        gc.collect()
        before, waits, walls = resident(), [], []
        for number in range(count):
            start, wall = time.process_time(), time.perf_counter()
            await client.create(CRDS, definition(number))
            await served(server, number)
            waits.append((time.process_time() - start) * 1e3)
            walls.append((time.perf_counter() - wall) * 1e3)
        gc.collect()
        found = {
            "megabytes": (resident() - before) / 1024 / count,
            "served ms cpu": sorted(waits)[count // 2],
            "served ms wall": sorted(walls)[count // 2],
            "served ms wall max": max(walls),
            "first index ms": await spent(server, "/openapi/v3"),
            "first discovery ms": await spent(server, "/apis", AGGREGATED),
        }
        await client.create(CRDS, definition(200_000))
        await served(server, 200_000)
        found["next index ms"] = await spent(server, "/openapi/v3")
        found["next discovery ms"] = await spent(server, "/apis", AGGREGATED)
        for number in range(count):
            await use(client, number)
        gc.collect()
        found["megabytes in use"] = (resident() - before) / 1024 / count
        return found


def test_a_definition_is_served_soon_and_small() -> None:
    """In a process of its own: what others left behind would be measured, too."""
    done = subprocess.run(
        [sys.executable, __file__, "60"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    print(json.dumps(found))
    assert found["megabytes"] <= 0.3
    assert found["megabytes in use"] <= 0.3
    assert found["served ms cpu"] <= 50
    assert found["next index ms"] <= 30
    assert found["next discovery ms"] <= 30


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))
