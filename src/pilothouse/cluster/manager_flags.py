"""kube-controller-manager's flags that a cluster passes on: how fast and how long controllers wait.

``pilothouse up`` has them by the same names; the cluster keeps them as text and gives them to the
controller manager that runs in it (core.py).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIXES = (
    "horizontal_pod_autoscaler_",
    "node_eviction_",
    "node_monitor_",
    "pvclaimbinder_",
    "resource_quota_",
    "terminated_pod_",
)


def _passed_on(name: str) -> bool:
    return name.startswith(_PREFIXES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own; what isn't given isn't set."""
    from pilothouse.controllermanager.config import add_flags

    group = parser.add_argument_group("controllers, as kube-controller-manager")
    add_flags(group, _passed_on)
    parser.set_defaults(**{action.dest: None for action in group._group_actions})


def flags_in(args: argparse.Namespace) -> tuple[str, ...]:
    """What of them was given, as text again."""
    from pilothouse.controllermanager.config import flag_text

    given = {name: value for name, value in vars(args).items() if _passed_on(name)}
    return tuple(flag_text(name, value) for name, value in given.items() if value is not None)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def settings_of(flags: Iterable[str]) -> dict[str, Any]:
    """Fields of ControllerManagerConfig. :raises ValueError: a flag that a cluster does not pass
    on, or a value that it can't have."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    given = vars(parser.parse_args(list(flags)))
    return {name: value for name, value in given.items() if value is not None}
