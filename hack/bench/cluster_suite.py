"""More than the API server: start to Ready, memory, pods bound and pods Running, in-process use."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from hack.bench import targets
from hack.bench.api_suite import ROOT, Worker
from hack.bench.process_stats import pss_megabytes
from hack.bench.targets import NotAvailable, Target

Figures = dict[str, dict[str, Any]]
_FAKE = ("--runtime", "fake", "--proxy-mode", "none")
_ALL = "apiserver,scheduler,controller-manager,kubelet,proxy"
_IDLE_SECONDS = 3.0
_IN_PROCESS = """
import asyncio, json, time
began = time.perf_counter()
from pilothouse import Cluster
from pilothouse.cluster.core import ClusterCore
imported = time.perf_counter()
times = []
async def once():
    start = time.perf_counter()
    async with Cluster():
        times.append(time.perf_counter() - start)
import uvloop
for _ in range(6):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(once())
print(json.dumps({"import": imported - began, "times": times}))
"""


def run(
    quick: bool, with_reference: bool, figures: Figures, progress: Callable[[str], None]
) -> None:
    steps: list[tuple[str, Callable[[], None]]] = [
        ("start to Ready, idle memory", lambda: start_and_idle(quick, with_reference, figures)),
        ("Cluster() in process", lambda: in_process(figures)),
        ("pods bound a second", lambda: bound(quick, with_reference, figures)),
        ("fake pods create-to-Running", lambda: fake_pods(quick, figures)),
        ("real pods create-to-Running", lambda: real_pods(quick, figures)),
    ]
    for name, step in steps:
        progress(name)
        try:
            step()
        except (NotAvailable, OSError, subprocess.SubprocessError, ValueError) as error:
            progress(f"{name}: {error}")


def start_and_idle(quick: bool, with_reference: bool, figures: Figures) -> None:
    seconds: list[float] = []
    idle: list[float] = []
    for _ in range(3 if quick else 5):
        target = targets.pilothouse(_ALL, "--nodes", "1", *_FAKE)
        try:
            seconds.append(target.start_seconds)
            if len(idle) < 2:
                time.sleep(_IDLE_SECONDS)
                idle.append(pss_megabytes(target.pids))
        finally:
            target.close()
    ours = statistics.median(seconds)
    figures.setdefault("start of a whole one-node cluster (s)", {})["pilothouse"] = ours
    figures.setdefault("idle one-node cluster (MB PSS)", {})["pilothouse"] = max(idle)
    if not with_reference:
        return
    target = targets.reference("scheduler", "controller-manager")
    try:
        time.sleep(_IDLE_SECONDS)
        name = "idle API server, scheduler, controllers, etcd; no kubelet (MB PSS)"
        figures.setdefault(name, {})["reference"] = pss_megabytes(target.pids)
    finally:
        target.close()


def in_process(figures: Figures) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    firsts, later, imports = [], [], []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", _IN_PROCESS], capture_output=True, text=True, timeout=60,
            env=environment, cwd=ROOT, check=False,
        )  # fmt: skip
        if done.returncode:
            raise NotAvailable(done.stderr[-400:])
        answer = json.loads(done.stdout)
        imports.append(answer["import"])
        firsts.append(answer["times"][0])
        later += answer["times"][1:]
    for name, values in (
        ("import of pilothouse.Cluster (ms)", imports),
        ("Cluster() in process, first in a process (ms)", firsts),
        ("Cluster() in process, later ones (ms)", later),
    ):
        figures[name] = {"pilothouse": statistics.median(values) * 1e3}


def bound(quick: bool, with_reference: bool, figures: Figures) -> None:
    nodes, pods = (100, 1000) if quick else (1000, 3000)
    starts: list[Callable[[], Target]] = [lambda: targets.pilothouse("apiserver,scheduler")]
    if with_reference:
        starts.append(lambda: targets.reference("scheduler"))
    for start in starts:
        target = start()
        worker = Worker.start(target)
        try:
            worker.run(job="setup", objects=False)
            worker.run(job="nodes", count=nodes)
            time.sleep(1.0)
            answer = worker.run(
                job="pods", count=pods, connections=16, until="bound", seconds=60, image="pause"
            )
        finally:
            worker.close()
            target.close()
        where = f"{pods:,} pods on {nodes:,} nodes"
        note_pods(figures, f"bound: {where}", target.name, answer)


def note_pods(figures: Figures, name: str, target: str, answer: dict[str, Any]) -> None:
    count = answer.get("operations")
    if not count:
        return
    figures.setdefault(f"pods {name} (pods/s)", {})[target] = count / answer["seconds"]
    figures.setdefault(f"CPU a pod {name} (ms)", {})[target] = answer["cpu"] / count * 1e3


def fake_pods(quick: bool, figures: Figures) -> None:
    nodes, pods = 10, 500 if quick else 1000
    target = targets.pilothouse(_ALL, "--nodes", str(nodes), *_FAKE)
    worker = Worker.start(target)
    try:
        worker.run(job="setup", objects=False)
        answer = worker.run(
            job="pods", count=pods, connections=16, until="running", seconds=60, image="pause"
        )
        if answer.get("operations"):
            name = "fake pods create-to-Running (pods/s)"
            rate = answer["operations"] / answer["seconds"]
            figures[name] = {"pilothouse": rate}
            cpu = answer["cpu"] / answer["operations"] * 1e3
            figures["CPU a fake pod, all components (ms)"] = {"pilothouse": cpu}
            if answer["operations"] < pods:
                figures["fake pods that did not get Running"] = {
                    "pilothouse": f"{pods - answer['operations']} of {pods}"
                }
    finally:
        worker.close()
        target.close()


def real_pods(quick: bool, figures: Figures) -> None:
    if os.geteuid() != 0 or shutil.which("crun") is None:
        raise NotAvailable("left out: needs root and crun")
    target = targets.pilothouse(_ALL, "--nodes", "1", "--runtime", "oci")
    worker = Worker.start(target)
    try:
        worker.run(job="setup", objects=False)
        answer = worker.run(
            job="pods", count=10 if quick else 30, serial=True, until="running", seconds=40,
            image="busybox", real=True,
        )  # fmt: skip
        if answer.get("operations"):
            figures["real pod create-to-Running, p50 (ms)"] = {"pilothouse": answer["p50"] * 1e3}
            figures["real pod create-to-Running, p99 (ms)"] = {"pilothouse": answer["p99"] * 1e3}
        else:
            raise NotAvailable("no pod became Running")
    finally:
        worker.close()
        target.close()
