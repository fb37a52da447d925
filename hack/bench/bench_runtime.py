"""Pod start by parts with the oci runtime: sandbox, create, start; exec; stop; memory a pod.

Runs inside namespaces of its own (root: real ones; else a user namespace) and leaves nothing.
``python hack/bench/bench_runtime.py [--pods N] [--workers N] [-o json]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pilothouse.apimachinery.clock import RealClock
from pilothouse.kubelet.images.registry import RegistryClient
from pilothouse.kubelet.images.service import LocalImageService
from pilothouse.kubelet.images.store import ImageStore
from pilothouse.kubelet.network.namespaces import create_netns, run_in_netns
from pilothouse.kubelet.network.node_network import prepare_node_namespace
from pilothouse.kubelet.runtime.interfaces import ContainerConfig, PodSandboxConfig, Resources
from pilothouse.kubelet.runtime.oci import OCIRuntime
from pilothouse.kubelet.runtime.probe import ROOTLESS_BOX
from pilothouse.kubelet.runtime.shim_client import ShimConfig

BOX = "unshare --pid --fork --kill-child --mount-proc --mount --net --propagation private".split()
INSIDE = "PILOTHOUSE_BENCH_INSIDE"
COMMAND = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done")


def milliseconds(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": round(statistics.median(values) * 1e3, 2), "p99": round(p99 * 1e3, 2)}


def resident(pid: int) -> float:
    """MB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024


def used_memory() -> float:
    """MB in use on the machine, page cache aside."""
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return (fields["MemTotal"] - fields["MemAvailable"]) / 1024


class Bench:
    def __init__(self, runtime: OCIRuntime, image: str, directory: str) -> None:
        self._runtime = runtime
        self._image = image
        self._directory = directory
        self.times: dict[str, list[float]] = {}

    async def timed(self, name: str, call: Any) -> Any:
        started = time.perf_counter()
        result = await call
        self.times.setdefault(name, []).append(time.perf_counter() - started)
        return result

    async def pod(self, number: int) -> tuple[str, str]:
        sandbox = PodSandboxConfig(
            f"pod-{number}", "default", f"uid-{number}", 0, f"pod-{number}", self._directory
        )
        container = ContainerConfig(
            "main",
            0,
            self._image,
            command=COMMAND,
            log_path=f"{number}.log",
            resources=Resources(cpu_shares=102, cpu_quota=20_000, memory_limit=64 << 20),
        )
        started = time.perf_counter()
        sandbox_id = await self.timed("sandbox", self._runtime.run_pod_sandbox(sandbox))
        created = await self.timed("create", self._runtime.create_container(sandbox_id, container))
        await self.timed("start", self._runtime.start_container(created))
        self.times.setdefault("pod", []).append(time.perf_counter() - started)
        return sandbox_id, created

    async def end(self, sandbox_id: str, container_id: str) -> None:
        await self.timed("stop", self._runtime.stop_container(container_id, 10))
        await self.timed("remove", self._runtime.remove_pod_sandbox(sandbox_id))


async def measure(pods: int, workers: int, directory: str) -> dict[str, Any]:
    netns = "/run/netns/bench"
    create_netns(netns)
    run_in_netns(netns, prepare_node_namespace)
    images = LocalImageService(ImageStore(f"{directory}/images"), RegistryClient(RealClock()))
    result: dict[str, Any] = {}
    started = time.perf_counter()
    await images.prepare()
    result["images_ms"] = round((time.perf_counter() - started) * 1e3, 1)
    config = ShimConfig(
        f"{directory}/node",
        netns=netns,
        pod_cidr="10.244.0.0/16",
        cgroup_root=f"/kubepods-bench{os.getppid()}-{int(time.monotonic())}",
    )
    runtime = OCIRuntime(config, images)
    started = time.perf_counter()
    await runtime.start()
    result["shim_start_ms"] = round((time.perf_counter() - started) * 1e3, 1)
    shim = await runtime.shim_pid()
    result["shim_mb"] = round(resident(shim), 1)
    image = await runtime.image_status("busybox")
    assert image
    try:
        await run_parts(
            Bench(runtime, image.id, f"{directory}/logs"), runtime, pods, workers, result
        )
        result["shim_mb_after"] = round(resident(shim), 1)
    finally:
        await runtime.shutdown(everything=True)
        await images.close()
    return result


async def run_parts(
    bench: Bench, runtime: OCIRuntime, pods: int, workers: int, result: dict[str, Any]
) -> None:
    await bench.end(*await bench.pod(0))
    bench.times.clear()
    before = used_memory()
    running = []
    for number in range(1, pods + 1):
        running.append(await bench.pod(number))
    result["mb_per_pod"] = round((used_memory() - before) / pods, 2)
    for _ in range(20):
        await bench.timed("exec_sync", runtime.exec_sync(running[0][1], ["true"], 5))
        await bench.timed("list_containers", runtime.list_containers())
    for pair in running:
        await bench.end(*pair)
    result["parts"] = {name: milliseconds(values) for name, values in bench.times.items()}
    result["pods_per_second"] = round(await burst(bench, pods, workers), 1)


async def burst(bench: Bench, pods: int, workers: int) -> float:
    """Pods started a second by ``workers`` at once."""
    numbers = iter(range(1000, 1000 + pods))
    made = []

    async def work() -> None:
        for number in numbers:
            made.append(await bench.pod(number))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    rate = pods / (time.perf_counter() - started)
    for pair in made:
        await bench.end(*pair)
    return rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if INSIDE not in os.environ:
        box = BOX if os.geteuid() == 0 else list(ROOTLESS_BOX)
        script = 'mount -t tmpfs none /run && "$@"; exit $?'
        command = [*box, "sh", "-c", script, "sh", sys.executable, str(Path(__file__).resolve())]
        os.environ[INSIDE] = "1"
        os.execvp(command[0], [*command, *sys.argv[1:]])
    directory = tempfile.mkdtemp(prefix="pilothouse-bench-")
    try:
        result = asyncio.run(measure(args.pods, args.workers, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if args.output == "json":
        print(json.dumps(result, indent=2))
        return 0
    for name, value in result.items():
        if name != "parts":
            print(f"{name:18} {value}")
    for name, numbers in result["parts"].items():
        print(f"{name:18} p50 {numbers['p50']:8.2f} ms   p99 {numbers['p99']:8.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
