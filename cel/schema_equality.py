"""Equality of values whose schema says that a list is a set or a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.cel.types import Type


def equality_of(type_: Type) -> Callable[[Any, Any], bool] | None:
    """The comparison for values of ``type_``; None: the usual one."""
    return None
