"""The process behind ``pilothouse up``: runs one cluster until it is told to stop.

The command starts ``python -m pilothouse.cluster.daemon FD`` with the configuration on stdin and
reads events (JSON lines: progress, ready, error) from FD. In the foreground the command calls
:func:`serve`.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, TextIO

from pilothouse.cluster.config import ClusterConfig
from pilothouse.cluster.state import ClusterState, this_process, write_private
from pilothouse.componentbase.process import collect_garbage_in_portions, raise_open_files

log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]
LOG_FILE = Path("logs", "pilothouse.log")


def main() -> int:
    descriptor = int(sys.argv[1])
    raise_open_files()
    config = ClusterConfig.from_json(sys.stdin.buffer.read())
    channel: IO[str] | None = os.fdopen(descriptor, "w", buffering=1)

    def report(event: dict[str, Any]) -> None:
        nonlocal channel
        if channel is None:
            return
        try:
            channel.write(json.dumps(event) + "\n")
            if event["event"] in ("ready", "error"):
                channel.close()
                channel = None
        except BrokenPipeError:  # the command is gone: go on without it
            channel = None

    return serve(config, report=report, log_file=sys.stderr)


def serve(config: ClusterConfig, *, report: Report, log_file: TextIO | None) -> int:
    """Runs the cluster until SIGTERM or SIGINT; returns the exit code.

    Reports ``{"event": "ready" | "progress" | "error", ...}``; after an error it cleans up and
    returns 1.
    """
    started = time.monotonic()
    directory = config.directory
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = lock_directory(directory)
    if lock is None:
        report({"event": "error", "message": f"another process is using {directory}"})
        return 1
    from pilothouse.componentbase.logs import setup

    setup(config.verbosity, log_file, directory / LOG_FILE)
    collect_garbage_in_portions()
    write_private(directory / "config.json", config.to_json())
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(_serve(config, report, started))


def lock_directory(directory: Path) -> int | None:
    """A lock that dies with this process; None when somebody else holds it."""
    descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def _serve(config: ClusterConfig, report: Report, started: float) -> int:
    from pilothouse.cluster.core import ClusterCore, StartFailure

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    state = ClusterState(name=config.name, process=this_process(), storage=config.storage)
    state.save(config.directory)

    def progress(message: str) -> None:
        report({"event": "progress", "message": message})

    core = ClusterCore(config, report=progress)
    starting = loop.create_task(core.start(), name="start")
    stop_asked = loop.create_task(stopping.wait(), name="stop-signal")
    await asyncio.wait((starting, stop_asked), return_when=asyncio.FIRST_COMPLETED)
    try:
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        try:
            starting.result()
        except (StartFailure, OSError) as error:
            report({"event": "error", "message": str(error)})
            return 1
        except Exception as error:
            log.exception("the cluster did not start")
            report({"event": "error", "message": f"it did not start: {error} (see the log)"})
            return 1
        describe(core, state)
        state.save(config.directory)
        report(ready_event(core, state, time.monotonic() - started))
        gc.collect()
        gc.freeze()
        await stop_asked
        return 0
    finally:
        stop_asked.cancel()
        await core.stop()


def describe(core: Any, state: ClusterState) -> None:
    state.ready = True
    state.server = core.server_url
    state.runtime = core.runtime_name
    merged = core.context_is_current
    state.kubeconfig = str(core.user_kubeconfig if merged else core.own_kubeconfig)
    state.helpers = core.helper_processes()


def ready_event(core: Any, state: ClusterState, seconds: float) -> dict[str, Any]:
    """What ``up`` prints."""
    kubectl = "kubectl" if core.context_is_current else f"kubectl --kubeconfig {state.kubeconfig}"
    return {
        "event": "ready",
        "name": core.config.name,
        "server": state.server,
        "seconds": seconds,
        "context": core.config.name,
        "kubeconfig": state.kubeconfig,
        "notes": core.notes,
        "summary": core.summary(),
        "try": [
            f"{kubectl} {command}"
            for command in next_commands(state.runtime, core.config.components, core.config.nodes)
        ],
    }


def next_commands(runtime: str, components: Collection[str], nodes: int = 1) -> list[str]:
    """Three that work: processes share the machine's ports, and no Service leads to them."""
    if not nodes or not {"scheduler", "controller-manager", "kubelet"} <= set(components):
        return ["api-resources", "create configmap hello --from-literal=a=b", "get all -A"]
    if runtime == "process":
        return [
            "create deployment hello --image=busybox -- httpd -f -p 8080",
            "get pods -o wide",
            "port-forward deployment/hello 8081:8080",
        ]
    return [
        "create deployment hello --image=busybox --replicas=2 -- httpd -f -p 80",
        "expose deployment hello --port=80",
        "get pods,services -o wide",
    ]


if __name__ == "__main__":
    sys.exit(main())
