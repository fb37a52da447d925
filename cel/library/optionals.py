"""Optional values (cel-go's library ``optional``); ``or`` and ``orValue`` are lazy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.operators import MIN_TIME, index, no_overload, optional_index
from pilothouse.cel.values import NONE, Duration, Optional, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _of_non_zero(value: Any) -> Optional:
    if value is None or (isinstance(value, Optional) and not value.has_value):
        return NONE
    if isinstance(value, Duration):
        return Optional(value) if value.ns else NONE
    if isinstance(value, Timestamp):
        return NONE if value.ns == MIN_TIME else Optional(value)
    if isinstance(value, (bool, int, float, str, bytes, list, dict)) and not value:
        return NONE
    return Optional(value)


def _value(optional: Any) -> Any:
    if isinstance(optional, Optional):
        return optional.value
    raise no_overload()


def _has_value(optional: Any) -> bool:
    if isinstance(optional, Optional):
        return optional.has_value
    raise no_overload()


def _or(optional: Any, other: Any) -> Any:
    return optional if _has_value(optional) else other


def _or_value(optional: Any, other: Any) -> Any:
    return optional.value if _has_value(optional) else other


def _first(values: Any) -> Optional:
    return Optional(values[0]) if values else NONE


def _last(values: Any) -> Optional:
    return Optional(values[-1]) if values else NONE


def _unwrap(values: Any) -> list[Any]:
    found = []
    for value in values:
        if not isinstance(value, Optional):
            raise EvaluationError(f"value {value} is not optional")
        if value.has_value:
            found.append(value.value)
    return found


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "optional_of", "optional.of(V) -> optional(V)", Optional
    yield "optional_ofNonZeroValue", "optional.ofNonZeroValue(V) -> optional(V)", _of_non_zero
    yield "optional_none", "optional.none() -> optional(V)", lambda: NONE
    yield "optional_value", "optional(V)|value() -> V", _value
    yield "optional_hasValue", "optional(V)|hasValue() -> bool", _has_value
    yield "optional_or_optional", "optional(V)|or(optional(V)) -> optional(V)", _or
    yield "optional_orValue_value", "optional(V)|orValue(V) -> V", _or_value
    yield "list_optindex_optional_int", "_[?_](list(V), int) -> optional(V)", optional_index
    yield (
        "optional_list_optindex_optional_int",
        "_[?_](optional(list(V)), int) -> optional(V)",
        optional_index,
    )
    yield "map_optindex_optional_value", "_[?_](map(K, V), K) -> optional(V)", optional_index
    yield (
        "optional_map_optindex_optional_value",
        "_[?_](optional(map(K, V)), K) -> optional(V)",
        optional_index,
    )
    yield "optional_list_index_int", "_[_](optional(list(V)), int) -> optional(V)", index
    yield "optional_map_index_value", "_[_](optional(map(K, V)), K) -> optional(V)", index
    yield "list_last", "list(V)|last() -> optional(V)", _last
    yield "list_first", "list(V)|first() -> optional(V)", _first
    yield "optional_unwrap", "optional.unwrap(list(optional(V))) -> list(V)", _unwrap
    yield "optional_unwrapOpt", "list(optional(V))|unwrapOpt() -> list(V)", _unwrap
