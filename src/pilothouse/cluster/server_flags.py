"""kube-apiserver's flags that a cluster passes on: audit, tracing, encryption, who logs in.

``pilothouse up`` has them by the same names. A cluster keeps them as text, with absolute paths: its
daemon works in another directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIXES = ("audit_", "tracing_", "encryption_", "oidc_")
_NAMES = frozenset(("authentication_config", "enable_aggregator_routing"))
_PATHS = ("_file", "_config", "_path")
_RARE = ("_batch_", "_truncate_", "_version", "_initial_backoff")
"""Left out of --help: whoever wants them knows kube-apiserver's."""


def _passed_on(name: str) -> bool:
    return name.startswith(_PREFIXES) or name in _NAMES


class _Hiding:
    """An argument group that says nothing about rare flags."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def add_argument(self, flag: str, **options: Any) -> None:
        if any(part in options["dest"] for part in _RARE):
            options["help"] = argparse.SUPPRESS
        self._group.add_argument(flag, **options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own."""
    from pilothouse.apiserver.config import add_flags

    add_flags(_Hiding(parser.add_argument_group("API server, as kube-apiserver")), _passed_on)


def flags_in(args: argparse.Namespace) -> tuple[str, ...]:
    """What of them was given, as text again."""
    from pilothouse.apiserver.config import given_in

    found = []
    for name, value in given_in(args).items():
        if not _passed_on(name):
            continue
        if isinstance(value, tuple):
            value = ",".join(value)
        elif name.endswith(_PATHS) and value and value != "-":
            value = Path(value).absolute()
        found.append(f"--{name.replace('_', '-')}={value}")
    return tuple(found)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def settings_of(flags: Iterable[str]) -> dict[str, Any]:
    """Fields of ServerConfig. :raises ValueError: a flag that a cluster does not pass on, or a
    value that it can't have."""
    from pilothouse.apiserver.config import add_flags, given_in

    parser = _Parser(add_help=False, allow_abbrev=False)
    add_flags(parser, _passed_on)
    return given_in(parser.parse_args(list(flags)))
