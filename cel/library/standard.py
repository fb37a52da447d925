"""CEL's standard functions: conversions, sizes, text tests. Operators are in ``operators.py``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pilothouse.cel import operators
from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.library import times
from pilothouse.cel.operators import no_overload
from pilothouse.cel.regular_expressions import RegexpError, matcher
from pilothouse.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    Duration,
    Timestamp,
    TypeValue,
    Uint,
    equals,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_UNSIGNED = re.compile(r"[0-9]+", re.ASCII)
_FLOAT = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)",
    re.ASCII | re.IGNORECASE,
)
_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def _no_conversion(value: Any, target: str) -> EvaluationError:
    text = f"type conversion error from '{type_name(value)}' to '{target}'"
    return EvaluationError(text)


def _no_overload(function: str, value: Any) -> EvaluationError:
    return EvaluationError(f"no such overload: {function}({type_name(value)})")


def to_int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is Uint:
        return operators.overflow(int(value))
    if kind is float:
        if value != value or not -9223372036854775808.0 < value < 9223372036854775807.0:
            raise EvaluationError("integer overflow")
        return int(value)
    if kind is str:
        if len(value) < 30 and _INTEGER.fullmatch(value):
            number = int(value)
            if MIN_INT <= number <= MAX_INT:
                return number
        raise _no_conversion(value, "int")
    if kind is Timestamp:
        return int(value.ns // 10**9)
    if kind is Duration:
        return int(value.ns)
    raise _no_overload("int", value)


def to_uint(value: Any) -> Uint:
    kind = type(value)
    if kind is Uint:
        return Uint(value)
    if kind is int:
        return operators.uint(value)
    if kind is float:
        if value != value or not 0 <= value < 18446744073709551615.0:
            raise EvaluationError("unsigned integer overflow")
        return Uint(int(value))
    if kind is str:
        if len(value) < 30 and _UNSIGNED.fullmatch(value) and int(value) <= MAX_UINT:
            return Uint(int(value))
        raise _no_conversion(value, "uint")
    raise _no_overload("uint", value)


def to_double(value: Any) -> float:
    kind = type(value)
    if kind in (float, int, Uint):
        return float(value)
    if kind is str:
        if _FLOAT.fullmatch(value):
            number = float(value)
            if abs(number) != float("inf") or "inf" in value.lower():
                return number
        raise _no_conversion(value, "double")
    raise _no_overload("double", value)


def format_double(value: float) -> str:
    """Go's ``%g``: the shortest digits, an exponent below -4 and from 21 on."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    digits = repr(value)
    mantissa, _, exponent = digits.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    if fraction == "0":
        fraction = ""
    point = len(whole) + int(exponent or 0)
    figures = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(figures)
    figures = figures.rstrip("0")
    if not figures:
        return sign + "0"
    power = point - 1
    if power < -4 or power >= 21:
        rest = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return sign + times.shortest(abs(value))


def to_string(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is Uint:
        return str(int(value))
    if kind is float:
        return format_double(value)
    if kind is bytes:
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            text = "invalid UTF-8 in bytes, cannot convert to string"
            raise EvaluationError(text) from None
    if kind is Timestamp:
        return times.format_timestamp(value)
    if kind is Duration:
        return times.format_duration(value)
    raise _no_overload("string", value)


def _to_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return bytes(value)
    if type(value) is str:
        return str(value).encode("utf-8", "surrogatepass")
    raise _no_overload("bytes", value)


def _to_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is not str:
        raise _no_overload("bool", value)
    found = _BOOLS.get(value)
    if found is None:
        raise _no_conversion(value, "bool")
    return found


def to_timestamp(value: Any) -> Timestamp:
    kind = type(value)
    if kind is str:
        found = times.parse_timestamp(value)
        if found is None:
            raise _no_conversion(value, "google.protobuf.Timestamp")
        return found
    if kind is int:
        return operators.timestamp(value * 10**9)
    if isinstance(value, Timestamp):
        return value
    raise _no_overload("timestamp", value)


def to_duration(value: Any) -> Duration:
    if type(value) is str:
        found = times.parse_duration(value)
        if found is None:
            raise _no_conversion(value, "google.protobuf.Duration")
        return found
    if isinstance(value, Duration):
        return value
    raise _no_overload("duration", value)


def size(value: Any) -> int:
    if isinstance(value, (str, list, dict, bytes, tuple)):
        return len(value)
    raise operators.no_operator("size", value)


def _starts_with(text: Any, prefix: Any) -> bool:
    if type(text) is str and type(prefix) is str:
        return text.startswith(prefix)
    raise no_overload()


def _ends_with(text: Any, suffix: Any) -> bool:
    if type(text) is str and type(suffix) is str:
        return text.endswith(suffix)
    raise no_overload()


def _contains(text: Any, part: Any) -> bool:
    if type(text) is str and type(part) is str:
        return part in text
    raise no_overload()


def matches(text: Any, pattern: Any) -> bool:
    if type(text) is not str or type(pattern) is not str:
        raise no_overload()
    try:
        return matcher(pattern)(text)
    except RegexpError as error:
        raise EvaluationError(str(error)) from None


def _type(value: Any) -> TypeValue:
    return TypeValue(type_name(value))


def _not_equals(a: Any, b: Any) -> bool:
    return not equals(a, b)


def _identity(value: Any) -> Any:
    return value


def _not_strictly_false(value: Any) -> bool:
    return value is not False


_COMPARED = ("int", "uint", "double")
_ARITHMETIC: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
    ("add", "_+_", "bytes,double,string,int64,uint64", operators.add),
    ("divide", "_/_", "double,int64,uint64", operators.divide),
    ("modulo", "_%_", "int64,uint64", operators.modulo),
    ("multiply", "_*_", "double,int64,uint64", operators.multiply),
    ("subtract", "_-_", "double,int64,uint64", operators.subtract),
)
_ORDER: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("less", "_<_", operators.less),
    ("less_equals", "_<=_", operators.less_equals),
    ("greater", "_>_", operators.greater),
    ("greater_equals", "_>=_", operators.greater_equals),
)


def _operators() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield "conditional", "_?_:_(bool, A, A) -> A", _identity
    yield "logical_not", "!_(bool) -> bool", operators.invert
    yield "not_strictly_false", "@not_strictly_false(bool) -> bool", _not_strictly_false
    yield "equals", "_==_(A, A) -> bool", equals
    yield "not_equals", "_!=_(A, A) -> bool", _not_equals
    for name, symbol, kinds, call in _ARITHMETIC:
        for kind in kinds.split(","):
            type_ = kind.removesuffix("64")
            yield f"{name}_{kind}", f"{symbol}({type_}, {type_}) -> {type_}", call
    yield "add_duration_duration", "_+_(duration, duration) -> duration", operators.add
    yield "add_duration_timestamp", "_+_(duration, timestamp) -> timestamp", operators.add
    yield "add_timestamp_duration", "_+_(timestamp, duration) -> timestamp", operators.add
    yield "add_list", "_+_(list(A), list(A)) -> list(A)", operators.add
    call = operators.subtract
    yield "subtract_duration_duration", "_-_(duration, duration) -> duration", call
    yield "subtract_timestamp_duration", "_-_(timestamp, duration) -> timestamp", call
    yield "subtract_timestamp_timestamp", "_-_(timestamp, timestamp) -> duration", call
    yield "negate_double", "-_(double) -> double", operators.negate
    yield "negate_int64", "-_(int) -> int", operators.negate
    for name, symbol, call in _ORDER:
        for type_ in ("bool", "string", "bytes", "timestamp", "duration"):
            yield f"{name}_{type_}", f"{symbol}({type_}, {type_}) -> bool", call
        for a in _COMPARED:
            for b in _COMPARED:
                yield _order_id(name, a, b), f"{symbol}({a}, {b}) -> bool", call
    yield "index_list", "_[_](list(A), int) -> A", operators.index
    yield "index_map", "_[_](map(A, B), A) -> B", operators.index
    yield "in_list", "@in(A, list(A)) -> bool", operators.is_in
    yield "in_map", "@in(A, map(A, B)) -> bool", operators.is_in


def _order_id(name: str, a: str, b: str) -> str:
    wide = {"int": "int64", "uint": "uint64", "double": "double"}
    return f"{name}_{wide[a]}" if a == b else f"{name}_{wide[a]}_{wide[b]}"


_CONVERSIONS: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("bool", "bool,string", _to_bool),
    ("bytes", "bytes,string", _to_bytes),
    ("double", "double,int,string,uint", to_double),
    ("duration", "duration,string", to_duration),
    ("int", "int,double,duration,string,timestamp,uint", to_int),
    ("string", "string,bool,bytes,double,duration,int,timestamp,uint", to_string),
    ("timestamp", "timestamp,int,string", to_timestamp),
    ("uint", "uint,double,int,string", to_uint),
)


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Everything that each environment has."""
    yield from _operators()
    for type_ in ("bytes", "list(A)", "map(A, B)", "string"):
        name = type_.partition("(")[0]
        yield f"size_{name}", f"size({type_}) -> int", size
        yield f"{name}_size", f"{type_}|size() -> int", size
    yield "type", "type(A) -> type(A)", _type
    yield "to_dyn", "dyn(A) -> dyn", _identity
    for target, kinds, call in _CONVERSIONS:
        for kind in kinds.split(","):
            yield f"{kind}_to_{target}", f"{target}({kind}) -> {target}", call
    yield "contains_string", "string|contains(string) -> bool", _contains
    yield "ends_with_string", "string|endsWith(string) -> bool", _ends_with
    yield "starts_with_string", "string|startsWith(string) -> bool", _starts_with
    yield "matches", "matches(string, string) -> bool", matches
    yield "matches_string", "string|matches(string) -> bool", matches
    yield from times.rows()
