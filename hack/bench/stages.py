"""Where the microseconds go: ``python -m hack.bench.stages [OPERATION…]`` (needs py-spy).

Runs one operation at a time against an API server of its own, samples the server's stacks and
gives each sample to the first stage that one of its frames, innermost first, belongs to. The
shares are of the CPU time per operation that was measured without the sampler.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hack.bench import targets
from hack.bench.api_suite import Worker
from hack.bench.report import markdown_table, text_table

OPERATIONS = (
    "GET Pod", "create ConfigMap", "create Pod", "patch Pod", "apply ConfigMap",
    "delete ConfigMap", "LIST 5,000 consistent",
)  # fmt: skip
RULES: tuple[tuple[str, str], ...] = (
    ("SSLObject.write", "TLS and socket, out"),
    ("SSLObject.read", "TLS, in"),
    ("HTTPProtocol.write_response", "TLS and socket, out"),
    ("HTTPProtocol._stream", "TLS and socket, out"),
    ("PushSink", "TLS and socket, out"),
    ("storage/sqlite", "store"),
    ("_worker (concurrent", "store"),
    ("storage/watch_hub", "watch cache"),
    ("storage/cacher", "watch cache"),
    ("storage/versioner", "encode and version"),
    ("managedfields/", "managed fields"),
    ("apiserver/admission/", "admission"),
    ("registry/before.py", "validation and system fields"),
    ("/validation", "validation and system fields"),
    ("metavalidation", "validation and system fields"),
    ("codec/defaulting", "defaults"),
    ("/defaults", "defaults"),
    ("apiserver/codec", "decode"),
    ("endpoints/body", "decode"),
    ("apimachinery/patch/", "patch"),
    ("endpoints/patch", "patch"),
    ("apiserver/authorization", "authentication and authorization"),
    ("filters/authorization", "authentication and authorization"),
    ("apiserver/authentication", "authentication and authorization"),
    ("filters/authentication", "authentication and authorization"),
    ("endpoints/responses", "answer"),
    ("endpoints/list", "answer"),
    ("apiserver/registry", "generic store"),
    ("apiserver/endpoints", "generic store"),
    ("apiserver/request", "HTTP and request info"),
    ("apiserver/filters", "filters"),
    ("handler_chain", "filters"),
    ("componentbase/serving", "HTTP and request info"),
    ("Runner.run", "event loop (reads, epoll, TLS state)"),
)


def stage_of(frames: list[str]) -> str:
    for frame in reversed(frames):
        for part, stage in RULES:
            if part in frame:
                return stage
    return "other"


def shares(raw: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        # A thread that waits for work looks busy to the sampler.
        if frames[-1].startswith("_worker (concurrent"):
            continue
        found[stage_of(frames)] += int(count)
    return found


def measure(worker: Worker, operation: str, sampler: str, seconds: float) -> dict[str, float]:
    connections = 1 if operation.startswith("LIST") else 16
    count = 60_000 if operation == "GET Pod" else 20_000
    if operation.startswith("delete"):
        worker.closed("create ConfigMap", 16, seconds * 5, count)
    worker.closed(operation, connections, 0.5, count)
    plain: Any = worker.closed(operation, connections, 1.5, count)
    cost = plain["cpu"] / plain["operations"] * 1e6
    with tempfile.NamedTemporaryFile(suffix=".raw") as output:
        sampling = subprocess.Popen(
            [sampler, "record", "-p", str(worker.target.pids[0]), "-d", str(int(seconds)),
             "-r", "400", "-f", "raw", "-o", output.name],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.5)
        worker.closed(operation, connections, seconds - 0.5, count)
        sampling.wait()
        found = shares(Path(output.name).read_text())
    total = sum(found.values()) or 1
    return {"total": cost} | {k: cost * v / total for k, v in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.bench.stages", description=__doc__)
    parser.add_argument("operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--py-spy", default=shutil.which("py-spy") or "")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if not args.py_spy:
        print("py-spy is not there: pip install py-spy", file=sys.stderr)
        return 1
    target = targets.pilothouse_apiserver()
    worker = Worker.start(target)
    columns: dict[str, dict[str, float]] = {}
    try:
        worker.run(job="setup")
        if any(operation.startswith("LIST") for operation in args.operations):
            worker.closed("create big Pod", 16, 60, 5000)
        for operation in args.operations:
            columns[operation] = measure(worker, operation, args.py_spy, args.seconds)
    finally:
        worker.close()
        target.close()
    stages = dict.fromkeys(stage for _, stage in RULES)
    table = [["stage, µs", *columns]]
    for stage in ("total", *stages, "other"):
        row = [f"{c[stage]:,.0f}" if c.get(stage, 0) >= 0.5 else "" for c in columns.values()]
        if any(row):
            table.append([stage, *row])
    print(markdown_table(table) if args.markdown else text_table(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
