"""What is running: the server's address, the nodes with their readiness, and the process ids.

Exit codes: 0 up and Ready, 3 down, 4 up but not Ready (the server does not answer, or is not
done starting), 1 there is no such cluster.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from pilothouse.cli.clusters import add_name, colour, directory_of, state_of
from pilothouse.cluster.state import ClusterState

DOWN, NOT_READY = 3, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    state = state_of(args)
    described = describe(state, directory_of(args) / "kubeconfig")
    if args.output == "json":
        print(json.dumps(described, indent=1))
    else:
        print_text(described)
    if not described["running"]:
        return DOWN
    return 0 if described["ready"] else NOT_READY


def describe(state: ClusterState, own_kubeconfig: Any) -> dict[str, Any]:
    """The JSON of ``status -o json``; ``nodes`` is empty when the server does not answer."""
    nodes: list[dict[str, Any]] = []
    problem = ""
    if state.running:
        from pilothouse.cli.fetch import fetch

        try:
            for node in fetch(own_kubeconfig, "/api/v1/nodes")["items"]:
                nodes.append(describe_node(node))
        except OSError as error:
            problem = str(error)
    pids = [p.pid for p in (state.process, *state.helpers) if p.alive]
    return {
        "name": state.name,
        "running": state.running,
        "ready": state.running and state.ready and not problem,
        "server": state.server,
        "kubeconfig": state.kubeconfig,
        "storage": state.storage,
        "runtime": state.runtime,
        "nodes": nodes,
        "pids": pids,
    } | ({"problem": problem} if problem else {})


def describe_node(node: dict[str, Any]) -> dict[str, Any]:
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", ())}
    addresses = {a["type"]: a["address"] for a in node["status"].get("addresses", ())}
    runtime = node["status"].get("nodeInfo", {}).get("containerRuntimeVersion", "")
    return {
        "name": node["metadata"]["name"],
        "ready": conditions.get("Ready") == "True",
        "runtime": runtime.partition(":")[0],
        "address": addresses.get("InternalIP", ""),
    }


def print_text(described: dict[str, Any]) -> None:
    if not described["running"]:
        print(f"cluster {described['name']!r} is {colour('down', '31')}")
        return
    word = colour("Ready", "32") if described["ready"] else colour("not Ready", "31")
    print(f"cluster {described['name']!r} is {word} at {described['server']}")
    if described.get("problem"):
        print(f"  problem: {described['problem']}")
    print(f"  kubeconfig: {described['kubeconfig']}\n  storage: {described['storage']}")
    for node in described["nodes"]:
        ready = "Ready" if node["ready"] else "NotReady"
        print(f"  node {node['name']}: {ready}, {node['runtime']}, {node['address']}")
    print(f"  pids: {' '.join(map(str, described['pids']))}")
