"""Print the log of a cluster, or of one component: apiserver, scheduler, controller-manager,
kubelet, proxy, dns (or any other logger's name). Three older files of 10 MB are kept.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pilothouse.cli import CommandError
from pilothouse.cli.clusters import add_name, directory_of
from pilothouse.componentbase.logs import KEPT, numbered

LOGGERS = {"controller-manager": "controllermanager", "proxy": "kubeproxy", "dns": "clusterdns"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("component", nargs="?", default="", metavar="COMPONENT")
    add_name(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines are written")
    parser.add_argument("--tail", type=int, default=-1, metavar="N", help="only the last N lines")


def run(args: argparse.Namespace) -> int:
    path = directory_of(args) / "logs" / "pilothouse.log"
    if not path.exists():
        raise CommandError(f"{path} is missing: cluster {args.name!r} was never started")
    wanted = LOGGERS.get(args.component, args.component)
    last: deque[str] = deque(maxlen=args.tail if args.tail >= 0 else None)
    for number in range(KEPT, 0, -1):
        older = numbered(path, number)
        if older.exists():
            with older.open(errors="replace") as file:
                last.extend(line.rstrip("\n") for line in file if of(line, wanted))
    with path.open(errors="replace") as file:
        last.extend(line.rstrip("\n") for line in file if of(line, wanted))
        for line in last:
            print(line)
        if args.follow:
            sys.stdout.flush()
            for line in follow(path, file):
                if of(line, wanted):
                    print(line, flush=True)
    return 0


def of(line: str, component: str) -> bool:
    """Whether the line was logged by that component (``component/file.py:42]``)."""
    return not component or f" {component}/" in line.partition("]")[0]


def follow(path: Path, file: TextIO) -> Iterator[str]:
    """Lines that come after what was read of ``file``; woken by inotify, not by a timer."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    modified, created = 0x00000002, 0x00000100
    # Of the directory: another file takes this one's place when it has grown too big.
    libc.inotify_add_watch(descriptor, os.fsencode(path.parent), modified | created)
    rest = ""
    while True:
        rest += file.read()
        *lines, rest = rest.split("\n")
        yield from lines
        if path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            rest += file.read()
            file = path.open(errors="replace")
            continue
        select.select([descriptor], [], [])
        os.read(descriptor, 65536)
