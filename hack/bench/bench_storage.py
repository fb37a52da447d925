"""Speed of the store backends: writes one by one and 64 at a time, get, range of 5,000.

    python hack/bench/bench_storage.py [--objects 2000] [--only sqlite-normal,memory]

Each backend feeds a watch cache, as in the API server; CPU is this process only (etcd's own
comes on top). Ratios mean more than the absolute numbers, which depend on the machine's load.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvloop

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apiserver.storage.cacher.cacher import Cacher
from pilothouse.apiserver.storage.factory import StorageConfig, open_storage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pilothouse.apiserver.storage.interfaces import Storage

PREFIX = "/registry/pods/"
VALUE = b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"spec":"' + b"x" * 1440 + b'"}'
IN_FLIGHT = 64
RANGE = 5000


class Cost(NamedTuple):
    wall_us: float
    cpu_us: float


async def measure(count: int, work: Callable[[], Awaitable[object]]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(wall / count * 1e6, cpu / count * 1e6)


async def one_by_one(storage: Storage, count: int) -> None:
    for number in range(count):
        await storage.create(f"{PREFIX}seq/{number}", VALUE)


async def updates(storage: Storage, cacher: Cacher, count: int) -> None:
    for number in range(count):
        key = f"{PREFIX}seq/{number}"
        entry = cacher.get(key)
        assert entry is not None
        await storage.update(key, VALUE, expected=entry.revision)


async def in_flight(storage: Storage, count: int) -> None:
    async def worker(number: int) -> None:
        for step in range(count // IN_FLIGHT):
            await storage.create(f"{PREFIX}many/{number}-{step}", VALUE)

    await asyncio.gather(*(worker(number) for number in range(IN_FLIGHT)))


async def gets(storage: Storage, count: int) -> None:
    for number in range(count):
        await storage.get(f"{PREFIX}seq/{number}")


async def bench(name: str, config: StorageConfig, count: int) -> str:
    clock = RealClock()
    begin = time.perf_counter()
    storage = open_storage(config, clock)
    await storage.start()
    start_ms = (time.perf_counter() - begin) * 1e3
    cacher = Cacher(storage, PREFIX, clock=clock)
    await cacher.ensure_ready()
    sequential = await measure(count, lambda: one_by_one(storage, count))
    await cacher.wait_until_fresh()
    updated = await measure(count, lambda: updates(storage, cacher, count))
    parallel = await measure(count, lambda: in_flight(storage, count))
    got = await measure(count, lambda: gets(storage, count))
    for number in range(RANGE):
        if number % IN_FLIGHT == 0:
            await asyncio.gather(
                *(storage.create(f"/registry/r/{number + i:05}", VALUE) for i in range(IN_FLIGHT))
            )
    ranged = await measure(1, lambda: storage.range("/registry/r/", limit=RANGE))
    await cacher.close()
    await storage.close()
    cells = [f"{1e6 / c.wall_us:8.0f}/s {c.cpu_us:6.1f}" for c in (sequential, updated, parallel)]
    return (
        f"{name:14} {start_ms:7.1f}  {'  '.join(cells)}  {got.wall_us:7.1f} {got.cpu_us:6.1f}"
        f"  {ranged.wall_us / 1e3:8.1f} {ranged.cpu_us / 1e3:6.1f}"
    )


async def main(only: set[str], count: int) -> None:
    head = ("backend", "start", "create, cpu us", "update, cpu us", "64 create, cpu us")
    print("{:14} {:>7}  {:>17}  {:>17}  {:>17}".format(*head), " get us, cpu   range 5000 ms, cpu")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        configs = {
            "memory": StorageConfig("memory"),
            "sqlite-normal": StorageConfig("sqlite", Path(directory, "normal.db")),
            "sqlite-full": StorageConfig("sqlite", Path(directory, "full.db"), durability="full"),
        }
        for name, config in configs.items():
            if not only or name in only:
                print(await bench(name, config, count), flush=True)
        if not only or "etcd" in only:
            await bench_etcd(Path(directory), count)


async def bench_etcd(directory: Path, count: int) -> None:
    from pilothouse.apiserver.storage.etcd3.testing import EtcdCluster, find_etcd

    binary = find_etcd()
    if binary is None:
        print("etcd: no binary")
        return
    cluster = EtcdCluster(directory, binary)
    cluster.start()
    try:
        config = StorageConfig("etcd", etcd_servers=cluster.urls)
        print(await bench("etcd no fsync", config, count), flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    names = {name for name in arguments.only.split(",") if name}
    uvloop.run(main(names, arguments.objects))
