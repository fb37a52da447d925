"""What the operators do with values whatever their types: arithmetic, order, index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NONE,
    Duration,
    Optional,
    Timestamp,
    Uint,
    contains,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = (int, Uint, float)
MIN_TIME = -62135596800 * 10**9
MAX_TIME = 253402300799 * 10**9 + 999_999_999


def no_overload() -> EvaluationError:
    return EvaluationError("no such overload")


_RECEIVERS = (str, Timestamp, Duration)


def no_operator(function: str, left: Any) -> EvaluationError:
    """``left`` knows nothing of an operator; texts and times say so without its name."""
    return no_overload() if type(left) in _RECEIVERS else _no_function(function)


def _no_function(function: str) -> EvaluationError:
    return EvaluationError(f"no such overload: {function}")


def overflow(value: int) -> int:
    """An int in range.

    :raises EvaluationError:
    """
    if MIN_INT <= value <= MAX_INT:
        return value
    raise EvaluationError("integer overflow")


def uint(value: int) -> Uint:
    if 0 <= value <= MAX_UINT:
        return Uint(value)
    raise EvaluationError("unsigned integer overflow")


def duration(ns: int) -> Duration:
    if MIN_INT <= ns <= MAX_INT:
        return Duration(ns)
    raise EvaluationError("duration overflow")


def timestamp(ns: int, offset: int = 0) -> Timestamp:
    if MIN_TIME <= ns <= MAX_TIME:
        return Timestamp(ns, offset)
    raise EvaluationError("timestamp overflow")


def add(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return overflow(a + b)
        if kind is str or kind is list or kind is float or kind is bytes:
            return a + b
        if kind is Uint:
            return uint(int(a) + int(b))
        if kind is Duration:
            return duration(a.ns + b.ns)
    elif kind is Timestamp and type(b) is Duration:
        return timestamp(a.ns + b.ns, a.offset)
    elif kind is Duration and type(b) is Timestamp:
        return timestamp(a.ns + b.ns, b.offset)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return [*a, *b]
    if kind in _NUMBERS or kind in (bytes, list):
        raise no_overload()
    raise no_operator("_+_", a)


def subtract(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return overflow(a - b)
        if kind is float:
            return a - b
        if kind is Uint:
            return uint(int(a) - int(b))
        if kind is Duration or kind is Timestamp:
            return duration(a.ns - b.ns)
    elif kind is Timestamp and type(b) is Duration:
        return timestamp(a.ns - b.ns, a.offset)
    if kind in _NUMBERS:
        raise no_overload()
    raise no_operator("_-_", a)


def multiply(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is type(b):
        if kind is int:
            return overflow(a * b)
        if kind is float:
            return a * b
        if kind is Uint:
            return uint(int(a) * int(b))
    if kind in _NUMBERS:
        raise no_overload()
    raise no_operator("_*_", a)


def divide(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind not in _NUMBERS:
        raise no_operator("_/_", a)
    if kind is not type(b):
        raise no_overload()
    if kind is float:
        if b == 0.0:
            return _divided_by_zero(a, b)
        return a / b
    if kind is int or kind is Uint:
        if b == 0:
            raise EvaluationError("division by zero")
        quotient = abs(a) // abs(b)
        if kind is Uint:
            return Uint(quotient)
        return overflow(quotient if (a < 0) == (b < 0) else -quotient)
    raise no_overload()


def _divided_by_zero(a: float, b: float) -> float:
    if a == 0.0 or a != a:
        return float("nan")
    negative = (a < 0) != (str(b)[0] == "-")
    return float("-inf") if negative else float("inf")


def modulo(a: Any, b: Any) -> Any:
    kind = type(a)
    if kind is not int and kind is not Uint:
        raise no_operator("_%_", a)
    if kind is not type(b):
        raise no_overload()
    if b == 0:
        raise EvaluationError("modulus by zero")
    if kind is Uint:
        return Uint(int(a) % int(b))
    if a == MIN_INT and b == -1:
        raise EvaluationError("integer overflow")
    rest = abs(a) % abs(b)
    return rest if a >= 0 else -rest


def negate(a: Any) -> Any:
    kind = type(a)
    if kind is int:
        return overflow(-a)
    if kind is float:
        return -a
    if kind is Duration:
        return duration(-a.ns)
    raise no_operator("-_", a)


def invert(a: Any) -> bool:
    if a is True:
        return False
    if a is False:
        return True
    raise no_overload()


_ORDERED = (str, bytes, bool, Timestamp, Duration)


def check_ordered(a: Any, b: Any, function: str) -> None:
    """:raises EvaluationError: one can't be less than the other."""
    kind, other = type(a), type(b)
    if kind in _NUMBERS and other in _NUMBERS:
        if a != a or b != b:
            raise EvaluationError("NaN values cannot be ordered")
        return
    if kind not in _NUMBERS and kind not in _ORDERED:
        raise _no_function(function)
    if kind is not other:
        raise no_overload()


def less(a: Any, b: Any) -> bool:
    check_ordered(a, b, "_<_")
    return bool(a < b)


def less_equals(a: Any, b: Any) -> bool:
    check_ordered(a, b, "_<=_")
    return bool(a <= b)


def greater(a: Any, b: Any) -> bool:
    check_ordered(a, b, "_>_")
    return bool(b < a)


def greater_equals(a: Any, b: Any) -> bool:
    check_ordered(a, b, "_>=_")
    return bool(b <= a)


def is_in(value: Any, values: Any) -> bool:
    if isinstance(values, dict):
        return has_key(values, value)
    if isinstance(values, (list, tuple)):
        return contains(values, value)
    raise no_overload()


_MISSING = object()


def has_key(values: dict[Any, Any], key: Any) -> bool:
    return _find(values, key) is not _MISSING


def _find(values: dict[Any, Any], key: Any) -> Any:
    kind = type(key)
    if kind is str:
        return values[key] if key in values else _MISSING
    if kind is list or kind is dict or kind not in (int, Uint, float, bool):
        return _MISSING
    if key not in values:
        return _MISSING
    if kind is bool or key in (0, 1):
        # True and 1 are one key to Python.
        known = next((each for each in values if each == key), None)
        if (type(known) is bool) is not (kind is bool):
            return _MISSING
    return values[key]


def shown(value: Any) -> str:
    """A key as error messages print it."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if type(value) is Uint:
        return str(int(value))
    if type(value) is float and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return "<nil>" if value is None else str(value)


def list_index(key: Any, size: int) -> int:
    """:raises EvaluationError: no index, or none of a list of this size."""
    kind = type(key)
    if kind is float:
        if not key.is_integer():
            raise EvaluationError(f"unsupported index value {key:g} in list")
    elif kind is not int and kind is not Uint:
        from pilothouse.cel.values import type_name

        raise EvaluationError(f"unsupported index type '{type_name(key)}' in list")
    at = int(key)
    if 0 <= at < size:
        return at
    raise EvaluationError(f"index out of bounds: {at}")


def index(values: Any, key: Any) -> Any:
    if isinstance(values, dict):
        found = _find(values, key)
        if found is _MISSING:
            raise EvaluationError(f"no such key: {shown(key)}")
        return found
    if isinstance(values, (list, tuple)):
        return values[list_index(key, len(values))]
    if isinstance(values, Optional):
        return optional_index(values, key)
    raise EvaluationError(f"no such key: {shown(key)}")


def optional_index(values: Any, key: Any) -> Optional:
    """``values[?key]``"""
    if isinstance(values, Optional):
        if not values.has_value:
            return NONE
        values = values.value
    if isinstance(values, dict):
        found = _find(values, key)
        return NONE if found is _MISSING else Optional(found)
    if isinstance(values, (list, tuple)):
        kind = type(key)
        if kind not in (int, Uint, float):
            raise no_overload()
        at = int(key)
        return Optional(values[at]) if at == key and 0 <= at < len(values) else NONE
    raise no_overload()


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": modulo,
    "_<_": less,
    "_<=_": less_equals,
    "_>_": greater,
    "_>=_": greater_equals,
}
