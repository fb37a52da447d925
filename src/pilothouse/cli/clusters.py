"""What the commands share: finding a cluster by name and talking about it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pilothouse.cli import CommandError
from pilothouse.cluster.config import ConfigError, check_name
from pilothouse.cluster.state import ClusterState, clusters_directory, known_clusters

DEFAULT_NAME = "pilothouse"


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster (default %(default)s)")
    parser.add_argument(
        "--data-dir", default="", help="where the cluster's files are (as given to up)"
    )


def directory_of(args: argparse.Namespace) -> Path:
    """:raises CommandError: the name leads elsewhere than to a cluster's directory."""
    try:
        check_name(args.name)
    except ConfigError as error:
        raise CommandError(str(error)) from error
    return Path(args.data_dir).absolute() if args.data_dir else clusters_directory() / args.name


def state_of(args: argparse.Namespace) -> ClusterState:
    """The cluster's state. :raises CommandError: there is none, with what there is."""
    directory = directory_of(args)
    try:
        state = ClusterState.load(directory)
    except ValueError as error:
        raise CommandError(
            f"{error}; `pilothouse down --name {args.name} --delete` removes it"
        ) from error
    if state is None:
        others = [n for n in known_clusters() if n != args.name]
        hint = f" (there are: {', '.join(others)})" if others else ""
        raise CommandError(
            f"there is no cluster {args.name!r}{hint}; "
            f"`pilothouse up --name {args.name}` starts one"
        )
    return state


def colour(text: str, code: str, stream: object = None) -> str:
    """ANSI colour on a terminal only (and never with $NO_COLOR)."""
    out = stream or sys.stdout
    if os.environ.get("NO_COLOR") or not getattr(out, "isatty", lambda: False)():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"
