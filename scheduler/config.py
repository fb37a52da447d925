"""Settings of the scheduler, with kube-scheduler's flag names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilothouse.scheduler.profile import DEFAULT_NAME, Profile

if TYPE_CHECKING:
    from pilothouse.scheduler.extender import ExtenderConfig


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    profiles: tuple[Profile, ...] = (Profile(),)
    percentage_of_nodes_to_score: int = 0
    """0: adaptive, 50 % falling to 5 % in large clusters, 100 nodes at least."""
    parallel_bindings: int = 64
    """Bindings under way at once."""
    pod_initial_backoff: float = 1.0
    pod_max_backoff: float = 10.0
    extenders: tuple[ExtenderConfig, ...] = ()
    leader_elect: bool = False
    leader_elect_namespace: str = "kube-system"
    leader_elect_name: str = "kube-scheduler"

    @property
    def scheduler_name(self) -> str:
        """The first profile's."""
        return self.profiles[0].scheduler_name

    def with_ignored_resources(self) -> tuple[Profile, ...]:
        """The profiles; resources that extenders look after are left out of NodeResourcesFit."""
        ignored = {name for extender in self.extenders for name in extender.ignored_resources}
        if not ignored:
            return self.profiles
        return tuple(_ignoring(profile, ignored) for profile in self.profiles)


def _ignoring(profile: Profile, ignored: set[str]) -> Profile:
    arguments = dict(profile.arguments)
    fit = dict(arguments.get("NodeResourcesFit") or {})
    fit["ignoredResources"] = [*(fit.get("ignoredResources") or ()), *sorted(ignored)]
    arguments["NodeResourcesFit"] = fit
    return replace(profile, arguments=arguments)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", default="", metavar="FILE", help="a KubeSchedulerConfiguration (YAML)")
    add(
        "--scheduler-name",
        default=DEFAULT_NAME,
        help="pods with this schedulerName are ours; without --config only",
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
        default=None,
        nargs="?",
        const=True,
        help="run only while holding the Lease kube-system/kube-scheduler (on, unless --config "
        "says otherwise)",
    )


def from_args(args: argparse.Namespace) -> SchedulerConfig:
    """:raises OSError: the file can't be read. :raises ValueError: or means nothing."""
    config = SchedulerConfig(
        profiles=(Profile(args.scheduler_name),),
        percentage_of_nodes_to_score=args.percentage_of_nodes_to_score,
        leader_elect=args.leader_elect is not False,
    )
    if not args.config:
        return config
    from pilothouse.scheduler.component_config import load

    with open(args.config) as file:
        loaded = load(file.read(), config)
    if args.leader_elect is None:
        return loaded
    return replace(loaded, leader_elect=args.leader_elect)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not true or false")
