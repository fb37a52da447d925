"""Stop a cluster. Its data stays, and `pilothouse up` carries on with it; --delete removes the
data and the context in your kubeconfig.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
from pathlib import Path

from pilothouse.cli import CommandError
from pilothouse.cli.clusters import add_name, directory_of
from pilothouse.cluster.state import ClusterState, ProcessId

OF_A_CLUSTER = ("cluster.json", "config.json", "lock")
"""Files that `up` makes first: what has none of them is not ours to remove."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument(
        "--delete", action="store_true", help="remove the data and the context, too"
    )
    parser.add_argument("--kubeconfig", default="", metavar="FILE", help="where the context is")
    parser.add_argument(
        "--wait", type=float, default=40.0, help="seconds to wait before killing (40)"
    )


def run(args: argparse.Namespace) -> int:
    directory = directory_of(args)
    if not directory.exists():
        raise CommandError(f"there is no cluster {args.name!r}; nothing to do")
    if not any((directory / name).is_file() for name in OF_A_CLUSTER):
        raise CommandError(f"{directory} is no cluster's directory: left as it is")
    try:
        state = ClusterState.load(directory)
    except ValueError:
        if not args.delete:
            raise CommandError(
                f"{directory / 'cluster.json'} is damaged; --delete removes the cluster"
            ) from None
        state = None
    was_running = state is not None and state.running
    if state is not None:
        stop(state, args.wait)
    from pilothouse.cluster.cleanup import clean_up

    clean_up(args.name, directory)
    if args.delete:
        remove_context(args.name, args.kubeconfig or (state.kubeconfig if state else ""))
        shutil.rmtree(directory)
        print(f"cluster {args.name!r} is gone")
    elif was_running:
        print(f"cluster {args.name!r} is down; its data is in {directory}")
    else:
        print(f"cluster {args.name!r} was not running; its data is in {directory}")
    return 0


def stop(state: ClusterState, seconds: float) -> None:
    """Ends the daemon (TERM, then KILL) and what is left of its helpers."""
    end(state.process, seconds)
    for helper in state.helpers:
        end(helper, 10.0)


def end(process: ProcessId, seconds: float) -> None:
    if not process.alive:
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if not process.alive:
            return
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], seconds)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], 5.0)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def remove_context(name: str, kubeconfig: str) -> None:
    from pilothouse.kubeclient.kubeconfig import default_path, remove_context

    path = Path(kubeconfig) if kubeconfig else default_path()
    if path.exists():
        remove_context(path, name)
