"""What is wrong with a value of a CRD schema, in kube-openapi's order and words.

Only for values that ``value_checks.py`` has found invalid. :class:`Explainer` walks value and
schema; with an old value it ratchets as upstream does: errors of parts that have not changed
are dropped.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from pilothouse.apimachinery.fieldpath import FieldError, format_value
from pilothouse.apiserver.apiextensions.formats import FORMATS, normalized
from pilothouse.apiserver.apiextensions.go_regexp import RegexpError, matcher
from pilothouse.apiserver.apiextensions.value_checks import (
    INT32,
    INT64,
    format_of,
    has_duplicates,
    in_enum,
    is_integer,
    is_multiple,
    types_of,
)

_COMPOSITE, _TYPE, _REQUIRED, _TOO_LONG, _ENUM, _TOO_MANY, _OTHER = range(7)
_NOTHING = object()


class Failure(NamedTuple):
    code: int
    name: str
    value: Any
    message: str
    limit: Any = None


class Result:
    """Failures without repetition, and how many checks passed (it picks among alternatives)."""

    __slots__ = ("failures", "matches", "texts")

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.texts: set[str] = set()
        self.matches = 0

    def add(self, code: int, name: str, value: Any, message: str, limit: Any = None) -> None:
        if message not in self.texts:
            self.texts.add(message)
            self.failures.append(Failure(code, name, value, message, limit))

    def merge(self, other: Result) -> None:
        for failure in other.failures:
            self.add(*failure)
        self.matches += other.matches


class Correlation:
    """A value with the old one that stands at the same place (cel/common/equality.go)."""

    __slots__ = ("_children", "_equal", "_keyed", "new", "old", "schema")

    def __init__(self, new: Any, old: Any, schema: dict[str, Any]) -> None:
        self.new, self.old, self.schema = new, old, schema
        self._children: dict[Any, Correlation | None] = {}
        self._equal: bool | None = None
        self._keyed: dict[bytes, Any] | None = None

    def key(self, field: str) -> Correlation | None:
        if field in self._children:
            return self._children[field]
        child = None
        if isinstance(self.new, dict) and isinstance(self.old, dict):
            schema = (self.schema.get("properties") or {}).get(field)
            if schema is None and isinstance(self.schema.get("additionalProperties"), dict):
                schema = self.schema["additionalProperties"]
            if schema is not None and field in self.new and field in self.old:
                child = Correlation(self.new[field], self.old[field], schema)
        self._children[field] = child
        return child

    def index(self, index: int) -> Correlation | None:
        if index in self._children:
            return self._children[index]
        child = None
        items = self.schema.get("items")
        if (
            isinstance(self.new, list)
            and isinstance(self.old, list)
            and isinstance(items, dict)
            and self.schema.get("x-kubernetes-list-type") == "map"
        ):
            old = self._by_key().get(self._key_of(self.new[index]), _NOTHING)
            if old is not _NOTHING:
                child = Correlation(self.new[index], old, items)
        self._children[index] = child
        return child

    def _key_of(self, item: Any) -> bytes:
        keys = self.schema.get("x-kubernetes-list-map-keys") or ()
        return orjson.dumps([item.get(k) if isinstance(item, dict) else None for k in keys])

    def _by_key(self) -> dict[bytes, Any]:
        if self._keyed is None:
            self._keyed = {}
            for item in self.old:
                self._keyed.setdefault(self._key_of(item), item)
        return self._keyed

    @property
    def equal(self) -> bool:
        if self._equal is None:
            self._equal = self.new == self.old and type(self.new) is type(self.old)
        return self._equal


def explain(
    schema: dict[str, Any],
    value: Any,
    path: str = "",
    old: Any = _NOTHING,
    correlation: Correlation | None = None,
) -> list[FieldError]:
    """Upstream's field errors; none when ``value`` is valid, or as wrong as ``old`` was.

    ``path`` is where ``value`` is, as in ``spec.versions[0].schema``.
    """
    explainer = Explainer()
    if correlation is None and old is not _NOTHING:
        correlation = Correlation(value, old, schema)
    result = explainer.validate(schema, value, "", correlation)
    return [_field_error(path, failure) for failure in result.failures]


def _field_error(path: str, failure: Failure) -> FieldError:
    field = path
    name = failure.name.removeprefix(".")
    if failure.code == _COMPOSITE:
        return FieldError("FieldValueInvalid", path or "<nil>", "", failure.message)
    if name and failure.name != ".":
        field = f"{path}.{name}" if path else name
    field = field or "<nil>"
    if failure.code == _REQUIRED:
        return FieldError("FieldValueRequired", field, "", "")
    if failure.code == _ENUM:
        allowed = [v if isinstance(v, str) else orjson.dumps(v).decode() for v in failure.limit]
        quoted = ", ".join(format_value(v) for v in allowed)
        return FieldError(
            "FieldValueNotSupported", field, failure.value, f"supported values: {quoted}"
        )
    if failure.code == _TOO_LONG:
        unit = "byte" if failure.limit == 1 else "bytes"
        detail = f"may not be more than {failure.limit} {unit}"
        return FieldError("FieldValueTooLong", field, "", detail)
    if failure.code == _TOO_MANY:
        plural = "" if failure.limit == 1 else "s"
        detail = f"must have at most {failure.limit} item{plural}"
        return FieldError("FieldValueTooMany", field, failure.value, detail)
    reason = "FieldValueTypeInvalid" if failure.code == _TYPE else "FieldValueInvalid"
    value = "" if failure.value is None else failure.value
    return FieldError(reason, field, value, failure.message)


def go_float(value: float) -> str:
    """A number as Go's %v prints a float64: shortest digits, an exponent from 1e+06 on."""
    _, digit_tuple, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    if not isinstance(exponent, int):
        return str(value)
    digits = "".join(map(str, digit_tuple))
    power = len(digits) - 1 + exponent
    if digits == "0" or -4 <= power < 6:
        return format(Decimal(repr(float(value))).normalize(), "f")
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _type_name(value: Any) -> tuple[str, str]:
    """(JSON type, format) of a value as kube-openapi infers them."""
    if isinstance(value, bool):
        return "boolean", ""
    if isinstance(value, str):
        return "string", ""
    if isinstance(value, int):
        return "integer", "int64"
    if isinstance(value, float):
        return "number", "float64"
    return ("array", "") if isinstance(value, list) else ("object", "")


def _map_value(value: Any) -> str:
    """%v of an enum's values."""
    if isinstance(value, str):
        return value
    return go_float(value) if isinstance(value, float) else format_value(value)


class Explainer:
    """One walk. Methods follow the order of kube-openapi's validators."""

    def validate(
        self, schema: dict[str, Any], value: Any, path: str, node: Correlation | None
    ) -> Result:
        result = self._plain(schema, value, path, node)
        if node is not None and result.failures and node.equal:
            forgiven = Result()
            forgiven.matches = result.matches
            return forgiven
        return result

    def _plain(
        self, schema: dict[str, Any], value: Any, path: str, node: Correlation | None
    ) -> Result:
        result = Result()
        types, format_ = types_of(schema), format_of(schema)
        if types or format_:
            self._type(result, schema, types, format_, value, path)
        if value is None:
            self._enum(result, schema, value, path)
            return result
        result.matches += 1
        result.merge(self._junctors(schema, value, path, node))
        result.matches += 1
        if isinstance(value, str):
            self._string(result, schema, value, path)
            self._format(result, format_, value, path)
            result.matches += 1
        elif type(value) in (int, float):
            self._number(result, schema, value, path)
        elif isinstance(value, list):
            self._array(result, schema, value, path, node)
        self._enum(result, schema, value, path)
        result.matches += 1
        if isinstance(value, dict):
            self._object(result, schema, value, path, node)
            result.matches += 1
        result.matches += 1
        return result

    def _type(
        self,
        result: Result,
        schema: dict[str, Any],
        types: tuple[str, ...],
        format_: str,
        value: Any,
        path: str,
    ) -> None:
        joined = ",".join(types)
        if value is None:
            if types and not schema.get("nullable"):
                self._wrong_type(result, path, joined, "null")
            return
        found, found_format = _type_name(value)
        fits = (
            found in types
            or (found == "integer" and "number" in types)
            or (found == "number" and "integer" in types and is_integer(value))
        )
        if found not in ("string", "array") and format_ and not fits and found_format != format_:
            self._wrong_type(result, path, format_, found_format)
        elif format_ and found in ("string", "array") and not {"number", "integer"} & set(types):
            result.matches += 1
        elif not fits:
            self._wrong_type(result, path, joined, found)
        else:
            result.matches += 1

    def _wrong_type(self, result: Result, path: str, wanted: str, found: str) -> None:
        message = f"{path} in body must be of type {wanted}: {format_value(found)}"
        result.add(_TYPE, path, found, message)

    def _junctors(
        self, schema: dict[str, Any], value: Any, path: str, node: Correlation | None
    ) -> Result:
        main = Result()
        if schema.get("anyOf"):
            self._any_of(main, [self._plain(s, value, path, node) for s in schema["anyOf"]], path)
        if schema.get("oneOf"):
            self._one_of(main, [self._plain(s, value, path, node) for s in schema["oneOf"]], path)
        if schema.get("allOf"):
            results = [self._plain(s, value, path, node) for s in schema["allOf"]]
            for each in results:
                main.merge(each)
            valid = sum(not each.failures for each in results)
            if valid != len(results):
                more = "" if valid else ". None validated"
                message = f'"{path}" must validate all the schemas (allOf){more}'
                main.add(_COMPOSITE, "", None, message)
        if schema.get("not") is not None:
            if not self._plain(schema["not"], value, path, node).failures:
                message = f'"{path}" must not validate the schema (not)'
                main.add(_COMPOSITE, "", None, message)
        main.matches += 1
        return main

    def _any_of(self, main: Result, results: list[Result], path: str) -> None:
        for each in results:
            if not each.failures:
                main.merge(each)
                return
        message = f'"{path}" must validate at least one schema (anyOf)'
        main.add(_COMPOSITE, "", None, message)
        main.merge(_best(results))

    def _one_of(self, main: Result, results: list[Result], path: str) -> None:
        valid = [each for each in results if not each.failures]
        if len(valid) == 1:
            main.merge(valid[0])
            return
        found = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
        message = f'"{path}" must validate one and only one schema (oneOf). {found}'
        main.add(_COMPOSITE, "", None, message)
        if not valid:
            main.merge(_best(results))

    def _string(self, result: Result, schema: dict[str, Any], value: str, path: str) -> None:
        low, high, pattern = (schema.get(k) for k in ("minLength", "maxLength", "pattern"))
        if high is not None and len(value) > high:
            message = f"{path} in body should be at most {high} chars long"
            result.add(_TOO_LONG, path, value, message, high)
        elif low is not None and len(value) < low:
            message = f"{path} in body should be at least {low} chars long"
            result.add(_OTHER, path, value, message, low)
        elif pattern:
            try:
                matched = matcher(pattern)(value)
            except RegexpError as error:
                matched, pattern = False, f"{pattern}, but pattern is invalid: {error}"
            if not matched:
                result.add(_OTHER, path, value, f"{path} in body should match '{pattern}'")

    def _format(self, result: Result, format_: str, value: str, path: str) -> None:
        check = FORMATS.get(normalized(format_)) if format_ else None
        if check is not None and not check(value):
            message = f"{path} in body must be of type {format_}: {format_value(value)}"
            result.add(_TYPE, path, value, message)

    def _number(self, result: Result, schema: dict[str, Any], value: Any, path: str) -> None:
        self._range(result, schema, value, path)
        factor = schema.get("multipleOf")
        whole = isinstance(value, int)

        def shown(bound: Any) -> str:
            return str(int(bound)) if whole else go_float(bound)

        if factor is not None and not is_multiple(value, factor):
            message = f"{path} in body should be a multiple of {shown(factor)}"
            result.add(_OTHER, path, value, message)
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None:
            bound, strict = int(low) if whole else low, schema.get("exclusiveMinimum")
            if value < bound or (strict and value == bound):
                words = "greater than" if strict else "greater than or equal to"
                message = f"{path} in body should be {words} {shown(bound)}"
                result.add(_OTHER, path, value, message)
        if high is not None:
            bound, strict = int(high) if whole else high, schema.get("exclusiveMaximum")
            if value > bound or (strict and value == bound):
                words = "less than" if strict else "less than or equal to"
                message = f"{path} in body should be {words} {shown(bound)}"
                result.add(_OTHER, path, value, message)
        result.matches += 2

    def _range(self, result: Result, schema: dict[str, Any], value: Any, path: str) -> None:
        if types_of(schema) != ("integer",):
            return
        format_ = schema.get("format") or ""
        low, high = INT32 if format_ == "int32" else INT64
        if not low <= value <= high:
            given = (
                f"with format {format_}" if format_ in ("int32", "int64") else "(default format)"
            )
            message = f"Checked value must be of type integer {given} in {path}"
            result.add(_COMPOSITE, "", None, message)

    def _array(
        self,
        result: Result,
        schema: dict[str, Any],
        value: list[Any],
        path: str,
        node: Correlation | None,
    ) -> None:
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                child = node.index(index) if node is not None else None
                result.merge(self.validate(items, item, f"{path}[{index}]", child))
        low, high = schema.get("minItems"), schema.get("maxItems")
        if low is not None and len(value) < low:
            message = f"{path} in body should have at least {low} items"
            result.add(_OTHER, path, len(value), message)
        if high is not None and len(value) > high:
            message = f"{path} in body should have at most {high} items"
            result.add(_TOO_MANY, path, len(value), message, high)
        if schema.get("uniqueItems") and has_duplicates(value):
            result.add(_OTHER, path, None, f"{path} in body shouldn't contain duplicates")
        result.matches += 2

    def _enum(self, result: Result, schema: dict[str, Any], value: Any, path: str) -> None:
        enum = schema.get("enum")
        if enum and not in_enum(value, enum):
            listed = " ".join(_map_value(allowed) for allowed in enum)
            message = f"{path} in body should be one of [{listed}]"
            result.add(_ENUM, path, value, message, enum)

    def _object(
        self,
        result: Result,
        schema: dict[str, Any],
        value: dict[str, Any],
        path: str,
        node: Correlation | None,
    ) -> None:
        size, low, high = len(value), schema.get("minProperties"), schema.get("maxProperties")
        if low is not None and size < low:
            message = f"{path} in body should have at least {low} properties"
            result.add(_OTHER, path, size, message)
        if high is not None and size > high:
            message = f"{path} in body should have at most {high} properties"
            result.add(_TOO_MANY, path, size, message, high)
        properties = schema.get("properties") or {}
        additional = schema.get("additionalProperties")
        if additional is False:
            for key in value:
                if key not in properties:
                    message = f"{path}.{key} in body is a forbidden property"
                    result.add(_OTHER, path, key, message)
        elif isinstance(additional, dict):
            for key, item in value.items():
                if key not in properties:
                    child = node.key(key) if node is not None else None
                    result.merge(self.validate(additional, item, f"{path}.{key}", child))
        for key, field in properties.items():
            if key in value:
                child = node.key(key) if node is not None else None
                if not path and key in ("kind", "apiVersion"):
                    child = None
                where = f"{path}.{key}" if path else key
                result.merge(self.validate(field, value[key], where, child))
        for key in schema.get("required") or ():
            if key not in value:
                name = f"{path}.{key}"
                result.add(_REQUIRED, name, None, f"{name} in body is required")


def _best(results: list[Result]) -> Result:
    best = results[0]
    for each in results[1:]:
        if each.matches > best.matches:
            best = each
    return best
