"""From JSON to what rules see: times, durations and bytes instead of text, doubles for numbers.

Values were validated before; what can't be read stays as it is. Containers are copied only on
the way to something that changes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilothouse.cel.interfaces import EvaluationError
from pilothouse.cel.library.times import parse_duration, parse_timestamp
from pilothouse.cel.values import Duration

if TYPE_CHECKING:
    from pilothouse.cel.schema_types import Declared

Convert = Callable[[Any], Any]
_LOOSE = re.compile(r"(\d+)\s*([A-Za-zµ]+)", re.ASCII)
_SECOND = 10**9
_UNITS = (
    (("ns", "nano"), 1),
    (("us", "µs", "micro"), 1000),
    (("ms", "milli"), 10**6),
    (("s", "sec"), _SECOND),
    (("m", "min"), 60 * _SECOND),
    (("h", "hr", "hour"), 3600 * _SECOND),
    (("d", "day"), 86400 * _SECOND),
    (("w", "wk", "week"), 7 * 86400 * _SECOND),
)


def converter_of(declared: Declared, schema: dict[str, Any]) -> Convert | None:
    """The function for values of ``declared``, made of those of its parts."""
    kind = declared.type.kind
    if kind == "double":
        return _double
    if kind == "bytes":
        return _bytes
    if kind == "duration":
        return _duration
    if kind == "timestamp":
        return _date if schema.get("format") == "date" else _timestamp
    if kind == "list" and declared.element is not None:
        return _each(declared.element.convert)
    if kind == "map" and declared.element is not None:
        return _values(declared.element.convert)
    below: dict[str, Convert] = {}
    for escaped, field in declared.fields.items():
        if field.convert is not None:
            below[declared.type.fields[escaped].name] = field.convert
    return _fields(below) if below else None


def _double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _bytes(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return base64.b64decode(value)
    except ValueError:
        return value


def _duration(value: Any) -> Any:
    if type(value) is not str:
        return value
    found = parse_duration(value)
    if found is not None:
        return found
    match = _LOOSE.fullmatch(value)
    if match is not None:
        unit = match[2].lower()
        for names, size in _UNITS:
            if unit in names or unit.rstrip("s") in names:
                return Duration(int(match[1]) * size)
    return value


def _timestamp(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        return parse_timestamp(value.upper().replace(" ", "T", 1)) or value
    except EvaluationError:
        return value


def _date(value: Any) -> Any:
    return _timestamp(f"{value}T00:00:00Z") if type(value) is str else value


def _each(inner: Convert | None) -> Convert | None:
    if inner is None:
        return None
    return lambda value: [inner(each) for each in value] if isinstance(value, list) else value


def _values(inner: Convert | None) -> Convert | None:
    if inner is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: inner(each) for key, each in value.items()}

    return convert


def _fields(below: dict[str, Convert]) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        changed = {key: inner(value[key]) for key, inner in below.items() if key in value}
        return {**value, **changed} if changed else value

    return convert
