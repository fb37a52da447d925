"""Scheduling side by side with kube-scheduler: scheduler_perf's cases, end to end.

``python -m hack.bench.scheduler_suite`` starts each side in turn (API server, store and scheduler
as processes of their own on both), makes nodes and the pods that are there before, and then
creates pods over 16 connections until a watch has shown each of them bound. After that, pods are
created at a fixed pace: how long it then takes from the request to the watch event is the latency
of scheduling, without a backlog. The nodes have no kubelet.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hack.bench import targets
from hack.bench.api_suite import Worker
from hack.bench.process_stats import cpu_seconds
from hack.bench.targets import NotAvailable, Target

PAUSE = "registry.k8s.io/pause:3.10.2"
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_SETTLE_SECONDS = 2.0
_PACE_SECONDS = 10.0


@dataclass(frozen=True)
class Case:
    """One of scheduler_perf's, by its numbers."""

    name: str
    nodes: int
    before: int
    measured: int
    goal: float
    """Pods a second, as a share of kube-scheduler's."""
    labels: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    plain_before: bool = False
    """The pods that are there before are plain ones."""

    def smaller(self, by: int, pods_by: int) -> Case:
        return replace(
            self,
            nodes=self.nodes // by,
            before=self.before // by // pods_by,
            measured=self.measured // by // pods_by,
        )


CASES = (
    Case("SchedulingBasic", 5000, 1000, 10000, 1.0),
    Case(
        "SchedulingPodAntiAffinity", 1000, 100, 800, 0.5, {"color": "green"},
        {
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "labelSelector": {"matchLabels": {"color": "green"}},
                            "topologyKey": HOST,
                        }
                    ]
                }
            }
        },
    ),
    Case(
        "TopologySpreading", 1000, 1000, 2000, 0.5, {"color": "blue"},
        {
            "topologySpreadConstraints": [
                {
                    "maxSkew": 5,
                    "topologyKey": ZONE,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"color": "blue"}},
                }
            ]
        },
        plain_before=True,
    ),
)  # fmt: skip


def pod_template(case: Case, *, plain: bool = False) -> dict[str, Any]:
    """scheduler_perf's templates pod-default, pod-with-pod-anti-affinity,
    pod-with-topology-spreading."""
    amounts = {"cpu": "100m", "memory": "500Mi"}
    container = {
        "name": "pause", "image": PAUSE, "ports": [{"containerPort": 80}],
        "resources": {"requests": amounts, "limits": amounts},
    }  # fmt: skip
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"labels": {} if plain else case.labels},
        "spec": {"containers": [container]} | ({} if plain else case.spec),
    }


def node_template() -> dict[str, Any]:
    amounts = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"labels": {}},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Bench"}],
        },
    }


def measure(case: Case, target: Target, pace: float) -> dict[str, float]:
    """:raises NotAvailable: pods were left over."""
    worker = Worker.start(target)
    try:
        worker.run(job="setup", objects=False)
        worker.run(job="nodes", count=case.nodes, template=node_template(), zones=3,
                   connections=8)  # fmt: skip
        job = {"job": "pods", "connections": 16, "until": "bound", "seconds": 300}
        before = pod_template(case, plain=case.plain_before)
        worker.run(**job, count=case.before, template=before, prefix="before")
        time.sleep(_SETTLE_SECONDS)
        done = worker.run(**job, count=case.measured, template=pod_template(case))
        if done.get("operations", 0) < case.measured:
            raise NotAvailable(f"{done.get('operations')} of {case.measured} pods were bound")
        time.sleep(_SETTLE_SECONDS)
        used = cpu_seconds(target.pids)
        # With anti-affinity there is room for one pod a node.
        left = case.nodes - case.before - case.measured if "affinity" in case.spec else 10**6
        late = worker.run(
            **job, count=min(int(pace * _PACE_SECONDS), left), template=pod_template(case),
            prefix="paced", pace=pace,
        )  # fmt: skip
        return {
            "pods/s": case.measured / done["seconds"],
            "CPU ms a pod": done["cpu"] / case.measured * 1e3,
            "p50 ms": late["p50"] * 1e3,
            "p99 ms": late["p99"] * 1e3,
            "paced CPU ms a pod": (cpu_seconds(target.pids) - used) / late["operations"] * 1e3,
        }
    finally:
        worker.close()


def run(cases: tuple[Case, ...], sides: list[str], pace: float) -> dict[str, Any]:
    """case -> side -> figures."""
    starts: dict[str, Callable[[], Target]] = {
        "pilothouse": targets.pilothouse_scheduling,
        "one process": lambda: targets.pilothouse("apiserver,scheduler"),
        "reference": lambda: targets.reference("scheduler"),
    }
    results: dict[str, Any] = {}
    for case in cases:
        for side in sides:
            print(f"… {case.name}: {side}", file=sys.stderr, flush=True)
            try:
                target = starts[side]()
                try:
                    figures = measure(case, target, pace)
                finally:
                    target.close()
            except (NotAvailable, OSError, KeyError) as error:
                print(f"{case.name}: {side}: {error!r}", file=sys.stderr)
                continue
            print(f"  {figures}", file=sys.stderr, flush=True)
            results.setdefault(case.name, {})[side] = figures
    return results


def text(cases: tuple[Case, ...], results: dict[str, Any]) -> str:
    """A Markdown table."""
    lines = [
        "| Case | Side | pods/s | CPU a pod (ms) | p50 (ms) | p99 (ms) | of the reference | goal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        sides = results.get(case.name, {})
        reference = sides.get("reference")
        for side, figures in sides.items():
            ratio = goal = ""
            if reference is not None and side != "reference":
                share = figures["pods/s"] / reference["pods/s"]
                ratio, goal = f"{share:.2f}", f"≥ {case.goal}: {_yes(share >= case.goal)}"
            what = f"{case.name}, {case.nodes:,} nodes, {case.measured:,} pods"
            lines.append(
                f"| {what} | {side} | {figures['pods/s']:.0f} | {figures['CPU ms a pod']:.2f} | "
                f"{figures['p50 ms']:.1f} | {figures['p99 ms']:.1f} | {ratio} | {goal} |"
            )
    return "\n".join(lines)


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.bench.scheduler_suite")
    add = parser.add_argument
    add("--only", default="", metavar="LIST", help="comma-separated parts of case names")
    add("--sides", default="pilothouse,one process,reference", metavar="LIST")
    add("--smaller", type=int, default=1, metavar="N", help="a N-th of nodes and pods")
    add("--fewer-pods", type=int, default=1, metavar="N", help="a N-th of the pods")
    add("--pace", type=float, default=30.0, help="pods a second when latency is measured")
    add("--json", metavar="FILE", help="save the figures there, too")
    args = parser.parse_args()
    cases = tuple(
        case.smaller(args.smaller, args.fewer_pods)
        for case in CASES
        if not args.only or any(part in case.name for part in args.only.split(","))
    )
    results = run(cases, args.sides.split(","), args.pace)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    print(text(cases, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
