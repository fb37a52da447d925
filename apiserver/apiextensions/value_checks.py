"""CRD schemas → functions that say whether a value is valid (the usual case of a write).

``compile_check`` makes one closure per node that has something to check; leaves that only have
a type share functions. What an invalid value lacks is found and worded by ``value_errors.py``,
which walks the schema: rejected writes may cost more than accepted ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.apiextensions.formats import FORMATS, known_format, normalized
from pilothouse.apiserver.apiextensions.go_regexp import RegexpError, matcher

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], bool]

INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)
INT_OR_STRING = "x-kubernetes-int-or-string"


def types_of(schema: dict[str, Any]) -> tuple[str, ...]:
    """The JSON types that a schema allows; empty when it says nothing."""
    if schema.get(INT_OR_STRING):
        return ("integer", "string")
    type_ = schema.get("type")
    return (type_,) if type_ else ()


def format_of(schema: dict[str, Any]) -> str:
    """The format, unless it means nothing for the type."""
    name = schema.get("format") or ""
    types = types_of(schema)
    return name if name and known_format(name, types[0] if len(types) == 1 else "") else ""


def is_integer(value: Any) -> bool:
    """An int, or a float that Go would take for one."""
    if type(value) is int:
        return True
    return type(value) is float and value.is_integer() and abs(value) < 1 << 53


def _is_string(value: Any) -> bool:
    return type(value) is str


def _is_boolean(value: Any) -> bool:
    return type(value) is bool


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_array(value: Any) -> bool:
    return type(value) is list


def _is_int_or_string(value: Any) -> bool:
    return type(value) is str or is_integer(value)


_TYPES: dict[str, Check] = {
    "string": _is_string,
    "boolean": _is_boolean,
    "integer": is_integer,
    "number": _is_number,
    "object": _is_object,
    "array": _is_array,
}


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


_NULLABLE = {name: _or_null(check) for name, check in _TYPES.items()}
_NULLABLE_INT_OR_STRING = _or_null(_is_int_or_string)


def _no(value: Any) -> bool:
    return False


def compile_check(schema: dict[str, Any]) -> Check | None:
    """The check of ``schema``; None when every value passes."""
    types, nullable = types_of(schema), bool(schema.get("nullable"))
    type_check: Check | None = None
    if types:
        if len(types) == 2:
            type_check = _NULLABLE_INT_OR_STRING if nullable else _is_int_or_string
        else:
            type_check = (_NULLABLE if nullable else _TYPES).get(types[0], _no)
    checks = [
        *_object_checks(schema),
        *_array_checks(schema),
        *_string_checks(schema),
        *_number_checks(schema),
        *_junctor_checks(schema),
    ]
    enum = schema.get("enum")
    if not checks and not enum:
        return type_check
    kind = _KINDS.get(types[0]) if len(types) == 1 else None
    if kind is not None and not nullable and not enum and len(checks) == 1:
        return _typed(kind, checks[0])
    if kind is not None and not nullable and enum and not checks:
        return _one_of_enum(kind, enum)
    return _all_of(type_check, tuple(checks), enum)


_KINDS: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "array": list}


def _one_of_enum(kind: type, enum: list[Any]) -> Check:
    allowed = tuple(each for each in enum if type(each) is kind)
    return lambda value: type(value) is kind and value in allowed


def _typed(kind: type, check: Check) -> Check:
    return lambda value: type(value) is kind and check(value)


def _all_of(type_check: Check | None, checks: tuple[Check, ...], enum: list[Any] | None) -> Check:
    def check(value: Any) -> bool:
        if type_check is not None and not type_check(value):
            return False
        if value is not None:
            for each in checks:
                if not each(value):
                    return False
        return enum is None or in_enum(value, enum)

    return check


def in_enum(value: Any, enum: list[Any]) -> bool:
    """Equality of Go values: 1 and True differ, 1 and 1.0 don't."""
    for allowed in enum:
        if allowed is None or value is None:
            continue
        if (type(value) is bool) == (type(allowed) is bool) and value == allowed:
            return True
    return not enum


def _object_checks(schema: dict[str, Any]) -> list[Check]:
    properties: dict[str, Check] = {}
    for key, field in (schema.get("properties") or {}).items():
        check = compile_check(field)
        if check is not None:
            properties[key] = check
    additional = schema.get("additionalProperties")
    element = compile_check(additional) if isinstance(additional, dict) else None
    required = tuple(schema.get("required") or ())
    low, high = schema.get("minProperties"), schema.get("maxProperties")
    found: list[Check] = []
    if element is not None:
        found.append(_elements_check(element, frozenset(schema.get("properties") or ())))
    if properties or required:
        found.append(_fields_check(properties, required))
    if low is not None or high is not None:
        found.append(_size_check(dict, low, high))
    if additional is False:
        found.append(_closed_check(frozenset(schema.get("properties") or ())))
    return found


def _fields_check(properties: dict[str, Check], required: tuple[str, ...]) -> Check:
    get = properties.get

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        for key, item in value.items():
            field = get(key)
            if field is not None and not field(item):
                return False
        for key in required:
            if key not in value:
                return False
        return True

    return check


def _elements_check(element: Check, known: frozenset[str]) -> Check:
    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        return all(key in known or element(item) for key, item in value.items())

    return check


def _closed_check(known: frozenset[str]) -> Check:
    return lambda value: type(value) is not dict or not (value.keys() - known)


def _size_check(kind: type, low: int | None, high: int | None) -> Check:
    def check(value: Any) -> bool:
        found = type(value)
        if found is not kind:
            return True
        return (low is None or len(value) >= low) and (high is None or len(value) <= high)

    return check


def _array_checks(schema: dict[str, Any]) -> list[Check]:
    found: list[Check] = []
    items = schema.get("items")
    element = compile_check(items) if isinstance(items, dict) else None
    if element is not None:
        found.append(_items_check(element))
    low, high = schema.get("minItems"), schema.get("maxItems")
    if low is not None or high is not None:
        found.append(_size_check(list, low, high))
    if schema.get("uniqueItems"):
        found.append(lambda value: type(value) is not list or not has_duplicates(value))
    return found


def _items_check(element: Check) -> Check:
    def check(value: Any) -> bool:
        if type(value) is not list:
            return True
        for item in value:
            if not element(item):
                return False
        return True

    return check


def has_duplicates(value: list[Any]) -> bool:
    seen: list[Any] = []
    for item in value:
        for other in seen:
            if item == other and type(item) is type(other):
                return True
        seen.append(item)
    return False


def _string_checks(schema: dict[str, Any]) -> list[Check]:
    low, high = schema.get("minLength"), schema.get("maxLength")
    found: list[Check] = []
    if low is not None or high is not None:
        found.append(_size_check(str, low, high))
    pattern = schema.get("pattern")
    if pattern:
        found.append(_pattern_check(pattern))
    name = normalized(format_of(schema))
    if name in FORMATS and name != "password":
        found.append(_format_check(FORMATS[name]))
    return found


def _format_check(function: Callable[[str], bool]) -> Check:
    return lambda value: type(value) is not str or function(value)


def _pattern_check(pattern: str) -> Check:
    matches: Callable[[str], bool] | None = None

    def check(value: Any) -> bool:
        nonlocal matches
        if type(value) is not str:
            return True
        if matches is None:
            try:
                matches = matcher(pattern)
            except RegexpError:
                return False
        return matches(value)

    return check


def _number_checks(schema: dict[str, Any]) -> list[Check]:
    found: list[Check] = []
    if any(schema.get(key) is not None for key in ("minimum", "maximum", "multipleOf")):
        found.append(_range_check(schema))
    if types_of(schema) == ("integer",) and schema.get("format") == "int32":
        low, high = INT32
        found.append(lambda value: type(value) not in (int, float) or low <= value <= high)
    return found


def _range_check(schema: dict[str, Any]) -> Check:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    factor = schema.get("multipleOf")

    def check(value: Any) -> bool:
        if type(value) is not int and type(value) is not float:
            return True
        if low is not None:
            floor = int(low) if type(value) is int else low
            if value < floor or (above and value == floor):
                return False
        if high is not None:
            ceiling = int(high) if type(value) is int else high
            if value > ceiling or (below and value == ceiling):
                return False
        return factor is None or is_multiple(value, factor)

    return check


def is_multiple(value: float, factor: float) -> bool:
    """As Go computes it: exactly for integers, by division for others."""
    if factor <= 0:
        return False
    if type(value) is int:
        whole = int(factor)
        return whole > 0 and value % whole == 0
    quotient = 1 / factor * value if factor < 1 else value / factor
    return abs(quotient) <= (1 << 53) - 1 and abs(quotient - round(quotient)) < 1e-9


def _junctor_checks(schema: dict[str, Any]) -> list[Check]:
    found: list[Check] = []
    for sub in schema.get("allOf") or ():
        check = compile_check(sub)
        if check is not None:
            found.append(check)
    any_of = [compile_check(sub) for sub in schema.get("anyOf") or ()]
    if any_of and None not in any_of:
        found.append(_any_check(tuple(check for check in any_of if check is not None)))
    if schema.get("oneOf"):
        found.append(_one_check(tuple(compile_check(sub) or _yes for sub in schema["oneOf"])))
    if schema.get("not") is not None:
        negated = compile_check(schema["not"]) or _yes
        found.append(lambda value: not negated(value))
    return found


def _yes(value: Any) -> bool:
    return True


def _any_check(checks: tuple[Check, ...]) -> Check:
    def check(value: Any) -> bool:
        for each in checks:
            if each(value):
                return True
        return False

    return check


def _one_check(checks: tuple[Check, ...]) -> Check:
    return lambda value: sum(each(value) for each in checks) == 1
