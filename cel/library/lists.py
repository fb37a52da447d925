"""Lists: Kubernetes' functions and cel-go's extension (version 3), and sets.

``includes`` is new in v1.37, which takes it in expressions that are stored already, but not in
new ones; so nothing here has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel import operators
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.values import Duration, Uint, contains, equals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SUMMABLE: dict[str, Any] = {
    "int": 0,
    "uint": Uint(0),
    "double": 0.0,
    "duration": Duration(0),
}
_MAX_RANGE = 1_000_000
"""A longer range exceeds what one evaluation may cost."""


def _is_sorted(values: list[Any]) -> bool:
    for at in range(1, len(values)):
        if operators.greater(values[at - 1], values[at]):
            return False
    return True


def _sum(zero: Any) -> Callable[[list[Any]], Any]:
    def total(values: list[Any]) -> Any:
        result = zero
        for value in values:
            result = operators.add(result, value)
        return result

    return total


def _max(values: list[Any]) -> Any:
    if not values:
        raise EvaluationError("max called on empty list")
    result = values[0]
    for value in values[1:]:
        if operators.less(result, value):
            result = value
    return result


def _min(values: list[Any]) -> Any:
    if not values:
        raise EvaluationError("min called on empty list")
    result = values[0]
    for value in values[1:]:
        if operators.greater(result, value):
            result = value
    return result


def _index_of(values: list[Any], wanted: Any) -> int:
    return next((at for at, value in enumerate(values) if equals(value, wanted)), -1)


def _last_index_of(values: list[Any], wanted: Any) -> int:
    for at in range(len(values) - 1, -1, -1):
        if equals(values[at], wanted):
            return at
    return -1


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    shown = f"cannot slice({start}, {end})"
    if start < 0 or end < 0:
        raise EvaluationError(f"{shown}, negative indexes not supported")
    if start > end:
        text = "start index must be less than or equal to end index"
        raise EvaluationError(f"{shown}, {text}")
    if len(values) < end:
        raise EvaluationError(f"{shown}, list is length {len(values)}")
    return values[start:end]


def _flatten(values: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    result: list[Any] = []
    for value in values:
        if depth and isinstance(value, (list, tuple)):
            result += _flatten(list(value), depth - 1)
        else:
            result.append(value)
    return result


def _sort(values: list[Any]) -> list[Any]:
    return _sort_by(values, values)


class _Key:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Key) -> bool:
        return operators.less(self.value, other.value)


def _sort_by(values: list[Any], keys: list[Any]) -> list[Any]:
    if len(values) != len(keys):
        raise EvaluationError(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys "
            f"list, but got {len(values)} and {len(keys)} elements respectively"
        )
    if any(type(key) is not type(keys[0]) for key in keys):
        raise EvaluationError("list elements must have the same type")
    order = sorted(range(len(keys)), key=lambda at: _Key(keys[at]))
    return [values[at] for at in order]


def _range(count: int) -> list[int]:
    if count < 0:
        raise EvaluationError(f"lists.range: size must be non-negative, got {count}")
    return list(range(min(count, _MAX_RANGE)))


def _reverse(values: list[Any]) -> list[Any]:
    return values[::-1]


def _distinct(values: list[Any]) -> list[Any]:
    result: list[Any] = []
    for value in values:
        if not contains(result, value):
            result.append(value)
    return result


def _sets_contain(values: list[Any], part: list[Any]) -> bool:
    return all(contains(values, value) for value in part)


def _sets_equivalent(a: list[Any], b: list[Any]) -> bool:
    return _sets_contain(a, b) and _sets_contain(b, a)


def _sets_intersect(a: list[Any], b: list[Any]) -> bool:
    return any(contains(b, value) for value in a)


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for kind in COMPARABLE:
        values = f"list({kind})"
        yield f"list_{kind}_is_sorted_bool", f"{values}|isSorted() -> bool", _is_sorted
        yield f"list_{kind}_max_{kind}", f"{values}|max() -> {kind}", _max
        yield f"list_{kind}_min_{kind}", f"{values}|min() -> {kind}", _min
    for kind, zero in _SUMMABLE.items():
        yield f"list_{kind}_sum_{kind}", f"list({kind})|sum() -> {kind}", _sum(zero)
    yield "list_a_index_of_int", "list(A)|indexOf(A) -> int", _index_of
    yield "list_a_last_index_of_int", "list(A)|lastIndexOf(A) -> int", _last_index_of
    yield "list_slice", "list(T)|slice(int, int) -> list(T)", _slice
    yield "list_flatten", "list(list(T))|flatten() -> list(T)", _flatten
    yield "list_flatten_int", "list(dyn)|flatten(int) -> list(dyn)", _flatten
    for kind in COMPARABLE:
        name = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}
        id_ = f"list_{name.get(kind, kind)}"
        yield f"{id_}_sort", f"list({kind})|sort() -> list({kind})", _sort
        yield (
            f"{id_}_sortByAssociatedKeys",
            f"list(T)|@sortByAssociatedKeys(list({kind})) -> list(T)",
            _sort_by,
        )
    yield "lists_range", "lists.range(int) -> list(int)", _range
    yield "list_reverse", "list(T)|reverse() -> list(T)", _reverse
    yield "list_distinct", "list(T)|distinct() -> list(T)", _distinct
    both = "(list(T), list(T)) -> bool"
    yield "list_sets_contains_list", f"sets.contains{both}", _sets_contain
    yield "list_sets_equivalent_list", f"sets.equivalent{both}", _sets_equivalent
    yield "list_sets_intersects_list", f"sets.intersects{both}", _sets_intersect
