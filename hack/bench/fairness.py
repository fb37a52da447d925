"""Does a flood hurt others? ``python -m hack.bench.fairness [--seconds 5] [--connections 64]``.

One client (ServiceAccount ``flood``) asks for all pods over many connections as fast as it can,
another one GETs single pods over one connection. The table says what the second sees while the
server is idle, under the flood, and under the flood with --enable-priority-and-fairness=false.
Load generators are processes of their own; the server is ``pilothouse apiserver``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import ssl
import time
from typing import Any

from hack.bench.http_client import Caller, summary
from hack.bench.process_stats import percentile
from hack.bench.targets import Target, pilothouse_apiserver, reference

PODS = 2_000
NAMESPACE = "fair"
_POLITE, _FLOOD = "polite", "flood"
_LIST = "/api/v1/namespaces/fair/pods"


def _request(method: str, path: str, user: str, body: Any = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: bench",
        f"Impersonate-User: system:serviceaccount:{NAMESPACE}:{user}",
        "Impersonate-Group: system:serviceaccounts",
        "Impersonate-Group: system:authenticated",
        "Impersonate-Group: bench-users",
    ]
    if data:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def _pod(number: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "registry.example/app:1",
        "env": [{"name": f"SETTING_{i}", "value": "a value of some length"} for i in range(10)],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "labels": {"app": "bench", "n": str(number)}},
        "spec": {"containers": [container]},
    }


async def _connect(target: dict[str, Any], count: int) -> list[Caller]:
    tls = ssl.create_default_context(cafile=target["ca"])
    tls.check_hostname = False
    tls.load_cert_chain(target["cert"], target["key"])
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        _, caller = await loop.create_connection(Caller, target["host"], target["port"], ssl=tls)
        made.append(caller)
    return made


def flood(target: dict[str, Any], connections: int, seconds: float, sent: Any) -> None:
    """LISTs of everything over all connections; how many were answered goes to ``sent``.

    It would run on machines of its own: here it takes what the others leave of the processors.
    """
    os.nice(15)

    async def run() -> None:
        callers = await _connect(target, connections)
        request = _request("GET", _LIST, _FLOOD)
        deadline = time.perf_counter() + seconds
        stream = iter(lambda: request if time.perf_counter() < deadline else b"", b"")
        await asyncio.gather(*(caller.run(stream) for caller in callers))
        sent.put(summary(callers) | {"answers": sum(len(c.latencies) for c in callers)})

    asyncio.run(run())


def polite(target: dict[str, Any], seconds: float, sent: Any) -> None:
    """GETs of single pods, fifty a second at most: a client that asks now and then."""

    async def run() -> None:
        (caller,) = await _connect(target, 1)
        await caller.run(iter([_request("GET", f"{_LIST}/pod-1", _POLITE)] * 50))
        caller.latencies.clear()
        deadline = time.perf_counter() + seconds
        for number in itertools.count():
            if time.perf_counter() > deadline:
                break
            await caller.run(iter([_request("GET", f"{_LIST}/pod-{number % PODS}", _POLITE)]))
            await asyncio.sleep(0.02)
        sent.put(summary([caller]) | {"latencies": caller.latencies})

    asyncio.run(run())


async def _fill(target: dict[str, Any]) -> None:
    (caller,) = await _connect(target, 1)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        for name in ("default", _POLITE, _FLOOD)
    ]
    path = f"/api/v1/namespaces/{NAMESPACE}"
    requests = [_request("POST", "/api/v1/namespaces", _POLITE, body)]
    requests += [_request("POST", f"{path}/serviceaccounts", _POLITE, a) for a in accounts]
    requests += [_request("POST", f"{path}/pods", _POLITE, _pod(n)) for n in range(PODS)]
    await caller.run(iter(requests))
    if caller.failures:
        raise SystemExit(f"setting up failed: {caller.failures} {caller.first_failure!r}")


def measure(target: Target, connections: int, seconds: float) -> list[dict[str, Any]]:
    """Rows of the table: idle, then under the flood."""
    asyncio.run(_fill(target.connection))
    context = multiprocessing.get_context("spawn")
    rows = []
    for what in ("idle", "flood"):
        answers, sent = context.Queue(), context.Queue()
        processes = [context.Process(target=polite, args=(target.connection, seconds, answers))]
        if what == "flood":
            arguments = (target.connection, connections, seconds + 2, sent)
            processes.insert(0, context.Process(target=flood, args=arguments))
        for process in processes:
            process.start()
            time.sleep(1.0)
        result = answers.get(timeout=seconds + 60)
        lists = sent.get(timeout=seconds + 60) if what == "flood" else {}
        for process in processes:
            process.join()
        found = result["latencies"]
        rows.append(
            {
                "case": what,
                "gets": len(found),
                "p50": percentile(found, 0.5) * 1e3,
                "p90": percentile(found, 0.9) * 1e3,
                "p99": percentile(found, 0.99) * 1e3,
                "failures": result["failures"],
                "lists": lists.get("answers", 0),
                "refused": lists.get("failures", {}),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--reference", action="store_true", help="also kube-apiserver with etcd")
    options = parser.parse_args()
    cases: list[tuple[str, Any]] = [
        ("fair", lambda: pilothouse_apiserver("memory")),
        (
            "without",
            lambda: pilothouse_apiserver("memory", "--enable-priority-and-fairness=false"),
        ),
    ]
    if options.reference:
        cases.append(("kube-apiserver", reference))
    print("| server | case | GETs | p50 ms | p90 ms | p99 ms | p99 / idle | LISTs | refused |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for name, start in cases:
        target = start()
        try:
            rows = measure(target, options.connections, options.seconds)
        finally:
            target.close()
        idle = rows[0]["p99"]
        for row in rows:
            print(
                f"| {name} | {row['case']} | {row['gets']} | {row['p50']:.2f} | {row['p90']:.2f} "
                f"| {row['p99']:.2f} | {row['p99'] / idle:.1f} | {row['lists']} "
                f"| {row['refused'] or ''} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
