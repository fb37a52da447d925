"""Settings of the scheduler, with kube-scheduler's flag names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    scheduler_name: str = "default-scheduler"
    percentage_of_nodes_to_score: int = 0
    """0: adaptive, 50 % falling to 5 % in large clusters, 100 nodes at least."""
    parallel_bindings: int = 64
    """Bindings under way at once."""
    leader_elect: bool = False
    leader_elect_namespace: str = "kube-system"
    leader_elect_name: str = "kube-scheduler"


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--scheduler-name",
        default="default-scheduler",
        help="pods with this schedulerName are ours",
    )
    add(
        "--percentage-of-nodes-to-score",
        type=int,
        default=0,
        metavar="N",
        help="stop looking after this share of nodes fits; 0 adapts to the size of the cluster",
    )
    add(
        "--leader-elect",
        type=_boolean,
        default=False,
        nargs="?",
        const=True,
        help="run only while holding the Lease kube-system/kube-scheduler",
    )


def from_args(args: argparse.Namespace) -> SchedulerConfig:
    return SchedulerConfig(
        scheduler_name=args.scheduler_name,
        percentage_of_nodes_to_score=args.percentage_of_nodes_to_score,
        leader_elect=args.leader_elect,
    )


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
