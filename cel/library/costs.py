"""What calls of the libraries cost at run time (apiserver pkg/cel/library/cost.go)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from pilothouse.cel.costs import LIST_COST, REGEX_FACTOR, size, tenth
from pilothouse.cel.library.formats import NamedFormat
from pilothouse.cel.library.lists import COMPARABLE

if TYPE_CHECKING:
    from pilothouse.cel.costs import CallCost

CHECK_COST = 350_000
"""One question to the authorizer."""


def _traversal(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        length = len(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)
        return length // 10
    if isinstance(value, dict):
        return sum(_traversal(key) + _traversal(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(_traversal, value))
    return 1


def _check(args: tuple[Any, ...], _: Any) -> int:
    return CHECK_COST


def _selector(args: tuple[Any, ...], _: Any) -> int:
    length = size(args[1])
    return LIST_COST + tenth(length) + ceil(ceil(length * 0.5) * 50.0)


def _traverse(args: tuple[Any, ...], _: Any) -> int:
    return _traversal(args[0])


def _first(args: tuple[Any, ...], _: Any) -> int:
    return tenth(size(args[0]))


def _first_twice(args: tuple[Any, ...], _: Any) -> int:
    return ceil(size(args[0]) * 2 * 0.1)


def _join(args: tuple[Any, ...], result: Any) -> int:
    return ceil(size(result) * 2 * 0.1)


def _find(args: tuple[Any, ...], _: Any) -> int:
    return tenth(1 + size(args[0])) * ceil(size(args[1]) * REGEX_FACTOR)


def _ip(args: tuple[Any, ...], _: Any) -> int:
    return tenth(size(args[0])) if isinstance(args[0], str) else 1


def _contains_ip(args: tuple[Any, ...], _: Any) -> int:
    own: int = args[0].cost_size()
    cost = ceil((own + own) * 0.1)
    return cost + tenth(len(args[1])) if isinstance(args[1], str) else cost


def _contains_cidr(args: tuple[Any, ...], _: Any) -> int:
    own = args[0].cost_size()
    return _contains_ip(args, None) + tenth(own) + 1


def _validate(args: tuple[Any, ...], _: Any) -> int:
    format_ = args[0]
    if not isinstance(format_, NamedFormat):
        return 1
    return tenth(1 + size(args[1])) * ceil(format_.regex_size * REGEX_FACTOR)


def _new_list(args: tuple[Any, ...], result: Any) -> int:
    return size(result) + 1 + LIST_COST


def _flatten(args: tuple[Any, ...], _: Any) -> int:
    depth = args[1] if len(args) == 2 else 1
    return size(args[0]) * depth + 1 + LIST_COST


def _compared(values: Any) -> int:
    length = size(values)
    texts = length > 0 and isinstance(values[0], (str, bytes))
    return int(length * length * (2.1 if texts else 2.0)) + 1 + LIST_COST


def _sets(factor: int) -> CallCost:
    return lambda args, _: 1 + size(args[0]) * size(args[1]) * factor


BY_FUNCTION: dict[str, CallCost] = {
    "check": _check,
    "fieldSelector": _selector,
    "labelSelector": _selector,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _traverse),
    **dict.fromkeys(
        ("url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey"), _first
    ),
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "ip"), _ip),
    **dict.fromkeys(("quantity", "isQuantity", "semver", "isSemver"), _first),
    "ip.isCanonical": _first_twice,
    "replace": _first_twice,
    "split": _first_twice,
    "join": _join,
    "find": _find,
    "findAll": _find,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
}
TRACKED: dict[str, CallCost] = {
    "list_slice": _new_list,
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "lists_range": _new_list,
    "list_reverse": _new_list,
    "list_distinct": lambda args, _: _compared(args[0]),
    "list_sets_contains_list": _sets(1),
    "list_sets_intersects_list": _sets(1),
    "list_sets_equivalent_list": _sets(2),
}
for _kind in COMPARABLE:
    _name = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}
    _id = f"list_{_name.get(_kind, _kind)}"
    TRACKED[f"{_id}_sort"] = lambda args, _: _compared(args[0])
    TRACKED[f"{_id}_sortByAssociatedKeys"] = lambda args, _: _compared(args[1])
