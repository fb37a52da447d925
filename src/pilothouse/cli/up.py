"""Start a cluster in the background, wait until it is Ready, and merge its context into your
kubeconfig. Run it again after `pilothouse down`: the data is still there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilothouse.cli import CommandError
from pilothouse.cli.clusters import DEFAULT_NAME, colour
from pilothouse.cluster import manager_flags, server_flags
from pilothouse.cluster.config import COMPONENTS, RUNTIMES, STORAGES, ClusterConfig, ConfigError
from pilothouse.cluster.state import ClusterState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = ClusterConfig()
    add = parser.add_argument
    add("--name", default=DEFAULT_NAME, help="name of the cluster and of its context (%(default)s)")
    add("--nodes", type=int, default=default.nodes, metavar="N", help="number of nodes (1)")
    add(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="how containers run (auto: the best that this machine allows)",
    )
    _add_storage(add)
    _add_network(add)
    server_flags.add_arguments(parser)
    manager_flags.add_arguments(parser)
    add(
        "--components",
        default=",".join(COMPONENTS),
        metavar="LIST",
        help="comma-separated; `apiserver` alone is what envtest gives (default: all)",
    )
    add("--foreground", action="store_true", help="stay in the foreground and log to stderr")
    add("--wait", type=float, default=120.0, metavar="S", help="seconds to wait for Ready (120)")
    add("-v", "--verbosity", type=int, default=0, metavar="N", help="log level as klog's -v")


def _add_storage(add: Callable[..., Any]) -> None:
    add("--storage", choices=STORAGES, default="sqlite", help="where objects are kept (sqlite)")
    add("--etcd-servers", default="", metavar="URLS", help="comma-separated, with --storage etcd")
    add("--etcd-cafile", default="", metavar="FILE", help="CA of etcd's certificates")
    add("--etcd-certfile", default="", metavar="FILE", help="client certificate for etcd")
    add("--etcd-keyfile", default="", metavar="FILE", help="its key")
    add(
        "--durability",
        choices=("normal", "full"),
        default="normal",
        help="sqlite: normal survives a crash of the process, full also a power cut (normal)",
    )
    add(
        "--data-dir",
        default="",
        metavar="D",
        help="the cluster's files (~/.pilothouse/clusters/NAME)",
    )


def _add_network(add: Callable[..., Any]) -> None:
    default = ClusterConfig()
    add(
        "--bind-address",
        default=default.bind_address,
        metavar="A",
        help="address to serve on (127.0.0.1)",
    )
    add(
        "--port",
        type=int,
        default=default.port,
        metavar="P",
        help="port to serve on; 0 picks a free one (6443)",
    )
    add(
        "--kubeconfig",
        default="",
        metavar="FILE",
        help="merge the context into FILE ($KUBECONFIG or ~/.kube/config)",
    )
    add(
        "--service-cidr",
        default="",
        metavar="CIDR",
        help="addresses of Services (10.96.0.0/16)",
    )
    add(
        "--pod-cidr",
        default="",
        metavar="CIDR",
        help="addresses of pods (10.244.0.0/16)",
    )
    add(
        "--proxy-mode",
        choices=("iptables", "none"),
        default="iptables",
        help="how Services are routed",
    )
    add(
        "--scheduler-config",
        default="",
        metavar="FILE",
        help="a KubeSchedulerConfiguration: profiles, plugins, extenders",
    )


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


def config_from(args: argparse.Namespace) -> ClusterConfig:
    """:raises CommandError: a flag that cannot work."""
    config = ClusterConfig(
        name=args.name,
        nodes=args.nodes,
        runtime=args.runtime,
        storage=args.storage,
        etcd_servers=tuple(s for s in args.etcd_servers.split(",") if s),
        etcd_cafile=args.etcd_cafile,
        etcd_certfile=args.etcd_certfile,
        etcd_keyfile=args.etcd_keyfile,
        durability=args.durability,
        data_dir=_absolute(args.data_dir),
        bind_address=args.bind_address,
        port=args.port,
        kubeconfig=_absolute(args.kubeconfig),
        service_cidr=args.service_cidr,
        pod_cidr=args.pod_cidr,
        proxy_mode=args.proxy_mode,
        scheduler_config=_absolute(args.scheduler_config),
        server_flags=server_flags.flags_in(args),
        manager_flags=manager_flags.flags_in(args),
        components=tuple(c.strip() for c in args.components.split(",") if c.strip()),
        verbosity=args.verbosity,
        rsa_admin_key=True,
    )
    try:
        config.validate()
    except ConfigError as error:
        raise CommandError(str(error)) from error
    return config


def run(args: argparse.Namespace) -> int:
    config = config_from(args)
    directory = config.directory
    refuse_second(config)
    if args.foreground:
        from pilothouse.cluster.daemon import serve

        return serve(config, report=print_event, log_file=None)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    reading, writing = os.pipe()
    log = directory / "logs" / "pilothouse.log"
    log.parent.mkdir(exist_ok=True, mode=0o700)
    with log.open("ab") as output:
        os.chmod(log, 0o600)
        process = subprocess.Popen(
            [sys.executable, "-m", "pilothouse.cluster.daemon", str(writing)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(writing,),
            start_new_session=True,
            cwd="/",
        )
    try:
        os.close(writing)
        assert process.stdin is not None
        process.stdin.write(config.to_json().encode())
        process.stdin.close()
        return wait_ready(config, process, reading, args.wait, log)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopping the cluster that was starting\n")
        process.terminate()
        process.wait()
        raise
    finally:
        os.close(reading)


def refuse_second(config: ClusterConfig) -> None:
    """:raises CommandError: this cluster is up already, or its description is damaged."""
    try:
        state = ClusterState.load(config.directory)
    except ValueError as error:
        raise CommandError(
            f"{error}; `pilothouse down --name {config.name} --delete` removes it"
        ) from error
    if state is not None and state.running:
        raise CommandError(
            f"cluster {config.name!r} is already up at {state.server} (pid {state.process.pid}); "
            f"`pilothouse down --name {config.name}` stops it, `--name OTHER` starts another"
        )


def wait_ready(
    config: ClusterConfig, process: subprocess.Popen[bytes], reading: int, seconds: float, log: Path
) -> int:
    """Prints progress until the daemon says ready (0) or gives up (1)."""
    import select

    progress = Progress()
    deadline = time.monotonic() + seconds
    buffered = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            progress.clear()
            process.terminate()
            process.wait()
            raise CommandError(f"not Ready after {seconds:.0f} s ({progress.last}); see {log}")
        data = os.read(reading, 65536)
        if not data:
            progress.clear()
            code = process.wait()
            raise CommandError(f"the cluster ended with code {code} while starting; see {log}")
        buffered += data
        *lines, buffered = buffered.split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["event"] == "error":
                progress.clear()
                process.wait()
                raise CommandError(event["message"])
            if event["event"] == "ready":
                progress.clear()
                print_event(event)
                return 0
            progress.show(event["message"])


class Progress:
    """One line on a terminal that says what is going on; nothing elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.last = "starting"

    def show(self, message: str) -> None:
        self.last = message
        if self.terminal:
            sys.stderr.write(f"\r\x1b[K{colour('…', '36', sys.stderr)} {message}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self.terminal:
            sys.stderr.write("\r\x1b[K")


def print_event(event: dict[str, Any]) -> None:
    """Tells the user what the daemon reported."""
    if event["event"] != "ready":
        print(event["message"], file=sys.stderr)
        return
    name = event["name"]
    tick = colour("✓", "32")
    print(f"{tick} cluster {name!r} is Ready at {event['server']} ({event['seconds']:.1f} s)")
    print(f"  {event['summary']}")
    for note in event["notes"]:
        print(f"  {note}")
    print("Try next:")
    for command in event["try"]:
        print(f"  {command}")
