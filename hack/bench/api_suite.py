"""The API server alone: every operation on every target, interleaved (A B A B), medians.

Rounds of short slices are better than one long one here: the machine is shared, and what others do
on it hits all targets alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.bench.process_stats import pss_megabytes
from hack.bench.requests import BIG_COUNT, LISTS
from hack.bench.targets import Target

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "create ConfigMap", "create Pod", "GET Pod", "patch Pod", "apply ConfigMap",
    "delete ConfigMap",
)  # fmt: skip
_MOST = 9000
"""Requests a second that hardly anybody here exceeds: so many are made ready."""
CONFIG_MAPS = 10_000


@dataclass
class Plan:
    """How long and how often."""

    seconds: float = 1.0
    rounds: int = 3
    connections: tuple[int, ...] = (1, 16, 64)
    list_connections: tuple[int, ...] = (1, 4)
    watch_seconds: float = 4.0
    operations: tuple[str, ...] = ()
    """Only these, by a part of their names; empty: all."""

    def wants(self, name: str) -> bool:
        return not self.operations or any(part in name for part in self.operations)


@dataclass
class Worker:
    """One load generator process and the target that it talks to."""

    target: Target
    process: subprocess.Popen[str]
    counters: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def start(target: Target) -> Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "hack.bench.load"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        worker = Worker(target, process)
        assert process.stdin is not None
        process.stdin.write(json.dumps(target.connection) + "\n")
        process.stdin.flush()
        return worker

    def run(self, **job: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the generator died"}
        if "error" in answer:
            print(f"  {self.target.name}: {job.get('operation', job['job'])}: {answer['error']}",
                  file=sys.stderr)  # fmt: skip
        elif answer.get("failures"):
            print(
                f"  {self.target.name}: {job.get('operation', job['job'])}: "
                f"{answer['failures']} {answer['first_failure'][:300]}",
                file=sys.stderr,
            )
        return answer

    def closed(self, operation: str, connections: int, seconds: float, count: int) -> Any:
        start = self.counters.get(operation, 0)
        if operation == "delete ConfigMap":
            # What has been created and not deleted yet.
            count = min(count, self.counters.get("create ConfigMap", 0) - start)
        answer = self.run(
            job="closed", operation=operation, connections=connections, seconds=seconds,
            count=count, start=start,
        )  # fmt: skip
        self.counters[operation] = start + answer.get("operations", 0)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


Slices = dict[tuple[str, int], dict[str, list[dict[str, Any]]]]


def run(targets: list[Target], plan: Plan, progress: Any) -> dict[str, Any]:
    """All measurements: rows by (operation, connections) and figures by target."""
    workers = [Worker.start(target) for target in targets]
    figures: dict[str, dict[str, float]] = {
        t.name: {"idle (MB PSS)": pss_megabytes(t.pids)} for t in targets
    }
    slices: Slices = {}
    try:
        for worker in workers:
            worker.run(job="setup")
        # Warm up: the first slices of a process are slower (caches, lazy imports, JIT of nothing).
        for worker in workers:
            for name in SMALL:
                worker.closed(name, 16, 0.3, 300)
        _lists(workers, plan, slices, progress)
        _watches(workers, plan, slices, progress)
        if not plan.operations:
            # Before the slices that take as many operations as fit: the same objects for all.
            progress(f"making {CONFIG_MAPS} ConfigMaps")
            for worker in workers:
                worker.closed("create ConfigMap", 16, 300, CONFIG_MAPS)
                after = pss_megabytes(worker.target.pids)
                figures[worker.target.name]["after (MB PSS)"] = after
        _small(workers, plan, slices, progress)
    finally:
        for worker in workers:
            worker.close()
    return {"rows": [_row(key, by_target) for key, by_target in slices.items()], "memory": figures}


def _small(workers: list[Worker], plan: Plan, slices: Slices, progress: Any) -> None:
    names = [name for name in SMALL if plan.wants(name)]
    if "delete ConfigMap" in names and "create ConfigMap" not in names:
        names.insert(0, "create ConfigMap")
    for connections in plan.connections:
        for number in range(plan.rounds):
            progress(f"{connections} connections, round {number + 1} of {plan.rounds}")
            for name in names:
                for worker in workers:
                    answer = worker.closed(
                        name,
                        connections,
                        plan.seconds,
                        int(_MOST * plan.seconds * (3 if name == "GET Pod" else 1)),
                    )
                    _keep(slices, name, connections, worker, answer)


def _lists(workers: list[Worker], plan: Plan, slices: Slices, progress: Any) -> None:
    names = [name for name in LISTS if plan.wants(name)]
    if not names:
        return
    progress(f"making {BIG_COUNT} pods")
    for worker in workers:
        worker.closed("create big Pod", 16, 300, BIG_COUNT)
    for connections in plan.list_connections:
        for number in range(plan.rounds):
            progress(f"lists, {connections} connections, round {number + 1}")
            for name in names:
                for worker in workers:
                    answer = worker.closed(name, connections, max(plan.seconds, 0.8), 2000)
                    _keep(slices, name, connections, worker, answer)


def _watches(workers: list[Worker], plan: Plan, slices: Slices, progress: Any) -> None:
    for watchers, rate in ((100, 100), (1000, 20)):
        name = f"watch, {watchers:,} watchers"
        if not plan.wants(name):
            continue
        for number in range(min(2, plan.rounds)):
            progress(f"{name} at {rate} events/s, round {number + 1}")
            for worker in workers:
                answer = worker.run(
                    job="watch", watchers=watchers, rate=rate, seconds=plan.watch_seconds
                )
                _keep(slices, name, watchers, worker, answer)
                alone = answer | {"cpu": answer.get("cpu_without_patches", 0.0)}
                _keep(slices, f"{name}, without the writes", watchers, worker, alone)


def _keep(slices: Slices, name: str, connections: int, worker: Worker, answer: Any) -> None:
    if answer.get("operations"):
        by_target = slices.setdefault((name, connections), {})
        by_target.setdefault(worker.target.name, []).append(answer)


def _row(key: tuple[str, int], by_target: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    name, connections = key
    row: dict[str, Any] = {"operation": name, "connections": connections, "targets": {}}
    for target, answers in by_target.items():
        row["targets"][target] = {
            "cpu_us": _median(a["cpu"] / a["operations"] * 1e6 for a in answers),
            "rate": _median(a["operations"] / a["seconds"] for a in answers),
            "p50_ms": _median(a["p50"] * 1e3 for a in answers),
            "p99_ms": _median(a["p99"] * 1e3 for a in answers),
            "failures": sum(sum(a["failures"].values()) for a in answers),
            "operations": sum(a["operations"] for a in answers),
            "cut": sum(a.get("cut", 0) for a in answers),
            "expected": sum(a.get("expected", 0) for a in answers),
        }
    ours, theirs = row["targets"].get("pilothouse"), row["targets"].get("reference")
    if ours and theirs and theirs["cpu_us"]:
        row["ratio"] = ours["cpu_us"] / theirs["cpu_us"]
    return row


def _median(values: Any) -> float:
    return float(statistics.median(list(values)))
