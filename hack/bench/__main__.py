"""Command line of the benchmark: see ``python -m hack.bench --help``. Exit code 0, whatever the
numbers are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from hack.bench import api_suite, report, targets
from hack.bench.api_suite import Plan
from hack.bench.goals import MEMORY_RATIOS
from hack.bench.targets import NotAvailable, Target


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="at most two minutes: fewer rounds, 16 connections")
    add("--only", default="", metavar="LIST",
        help="comma-separated parts of operation names, or: api, cluster")  # fmt: skip
    add("--no-reference", action="store_true", help="measure Pilothouse only")
    add("--no-pilothouse", action="store_true", help="measure the reference only")
    add("--storage", default="sqlite", choices=("sqlite", "memory", "etcd"),
        help="Pilothouse's store")  # fmt: skip
    add("--target", action="append", default=[], metavar="NAME=KUBECONFIG:PID,PID",
        help="measure this running API server (again for more); starts nothing")  # fmt: skip
    add("--connections", default="", metavar="LIST", help="e.g. 1,16,64")
    add("--rounds", type=int, default=0)
    add("--seconds", type=float, default=0.0, help="length of one slice")
    add("-o", "--output", choices=("text", "json"), default="text")
    add("--write", action="store_true", help="put the tables into docs/performance.md")
    add("--results", metavar="FILE", help="show (and write) what -o json has saved")
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    plan = Plan()
    if args.quick:
        plan = Plan(seconds=0.6, rounds=2, connections=(16,), list_connections=(1,),
                    watch_seconds=2.5)  # fmt: skip
    if args.connections:
        plan.connections = tuple(int(n) for n in args.connections.split(","))
    plan.rounds = args.rounds or plan.rounds
    plan.seconds = args.seconds or plan.seconds
    parts = [part for part in args.only.split(",") if part and part not in ("api", "cluster")]
    plan.operations = tuple(parts)
    return plan


def progress(message: str) -> None:
    print(f"… {message}", file=sys.stderr, flush=True)


def given(text: str) -> Target:
    name, _, rest = text.partition("=")
    path, _, pids = rest.rpartition(":")
    return targets.from_kubeconfig(name, Path(path), [int(pid) for pid in pids.split(",")])


def start_targets(args: argparse.Namespace) -> list[Target]:
    if args.target:
        return [given(text) for text in args.target]
    started: list[Target] = []
    for name, unwanted in (("pilothouse", args.no_pilothouse), ("reference", args.no_reference)):
        if unwanted:
            continue
        try:
            if name == "pilothouse":
                started.append(targets.pilothouse_apiserver(args.storage))
            else:
                started.append(targets.reference())
        except NotAvailable as error:
            progress(str(error))
    return started


def measure_api(args: argparse.Namespace, results: dict[str, Any]) -> None:
    started = start_targets(args)
    try:
        results["targets"] = {t.name: t.version for t in started}
        # Right after the start there is work left that would count as idle memory.
        time.sleep(1.0)
        measured = api_suite.run(started, plan_of(args), progress)
        results["rows"] = measured["rows"]
        figures = results["figures"]
        for target in started:
            if target.start_seconds:
                name = "start of one API server (s)"
                figures.setdefault(name, {})[target.name] = target.start_seconds
            memory = measured["memory"][target.name]
            for key, value in memory.items():
                name = "idle API server (MB PSS)" if "idle" in key else next(iter(MEMORY_RATIOS))
                figures.setdefault(name, {})[target.name] = value
    finally:
        for target in started:
            target.close()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {"machine": report.machine(), "figures": {}}
    only = set(args.only.split(",")) - {""}
    if only != {"cluster"}:
        measure_api(args, results)
    if (not only or "cluster" in only) and not args.target:
        from hack.bench import cluster_suite

        cluster_suite.run(args.quick, not args.no_reference, results["figures"], progress)
    return results


def main() -> int:
    args = arguments()
    results = json.loads(Path(args.results).read_text()) if args.results else measure(args)
    print(json.dumps(results, indent=1) if args.output == "json" else report.text(results))
    if args.write:
        print(f"written: {report.write(results)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
