"""What calls cost at run time (cel-go's cost tracker and apiserver's library costs)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from pilothouse.cel.values import Optional

if TYPE_CHECKING:
    from collections.abc import Callable

    CallCost = Callable[[tuple[Any, ...], Any], int]

PER_CALL_LIMIT = 1_000_000
"""celconfig.PerCallLimit: one evaluation."""
RUNTIME_BUDGET = 10_000_000
"""celconfig.RuntimeCELCostBudget: all rules of a request."""
MATCH_CONDITIONS_BUDGET = 2_500_000
"""celconfig.RuntimeCELCostBudgetMatchConditions: all match conditions of a webhook or policy."""

STRING_FACTOR = 0.1
REGEX_FACTOR = 0.25
LIST_COST = 10
MAP_COST = 30
STRUCT_COST = 40


def size(value: Any) -> int:
    """What stands for a value's size in a cost."""
    kind = type(value)
    if kind is str or kind is list or kind is dict or kind is bytes:
        return len(value)
    if isinstance(value, Optional) and value.has_value:
        return size(value.value)
    return len(value) if isinstance(value, (list, dict, tuple)) else 1


def tenth(length: int) -> int:
    """Traversing a string of this length once."""
    return (length + 9) // 10


def _second(args: tuple[Any, ...], _: Any) -> int:
    return tenth(size(args[1]))


def _first(args: tuple[Any, ...], _: Any) -> int:
    return tenth(size(args[0]))


def _in_list(args: tuple[Any, ...], _: Any) -> int:
    return size(args[1])


def _shorter(args: tuple[Any, ...], _: Any) -> int:
    return tenth(min(size(args[0]), size(args[1])))


def _both(args: tuple[Any, ...], _: Any) -> int:
    return tenth(size(args[0]) + size(args[1]))


def _matches(args: tuple[Any, ...], _: Any) -> int:
    return tenth(1 + size(args[0])) * ceil(size(args[1]) * REGEX_FACTOR)


def _contains(args: tuple[Any, ...], _: Any) -> int:
    return tenth(size(args[0])) * tenth(size(args[1]))


BY_OVERLOAD: dict[str, CallCost] = {
    "starts_with_string": _second,
    "ends_with_string": _second,
    "string_to_bytes": _first,
    "bytes_to_string": _first,
    "strings_quote": _first,
    "string_format": _first,
    "in_list": _in_list,
    **{
        f"{order}_{kind}": _shorter
        for order in ("less", "less_equals", "greater", "greater_equals")
        for kind in ("string", "bytes")
    },
    "equals": _shorter,
    "not_equals": _shorter,
    "add_string": _both,
    "add_bytes": _both,
    "matches": _matches,
    "matches_string": _matches,
    "contains_string": _contains,
}


def call_cost(function: str, overload: str) -> CallCost | None:
    """How to count a call; None: it costs 1."""
    from pilothouse.cel.library.costs import BY_FUNCTION, TRACKED

    return TRACKED.get(overload) or BY_FUNCTION.get(function) or BY_OVERLOAD.get(overload)
