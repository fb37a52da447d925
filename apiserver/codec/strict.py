"""The slow, exact way through an object: paths, unknown and duplicate fields, error texts.

``coercion.py`` comes here when something is unusual. The walker follows Go's decoder
(sigs.k8s.io/json): it goes on after a wrong type and reports the first one, an error of a type's
own unmarshaler ends it at once, strict errors carry paths with indices, and unknown fields are
dropped. Custom resources are pruned by their schema instead; their types are validated later.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilothouse.apis.schemas import GoField, definition
from pilothouse.apiserver.codec import go_values
from pilothouse.apiserver.codec.coercion import (
    MAX_DEPTH_TEXT,
    CoercionError,
    coerce,
    drops_when_empty,
)
from pilothouse.apiserver.codec.go_values import GoValueError, json_kind, wrong_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

_MAX_STRICT_ERRORS = 100
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_JSON_SCHEMA_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_DROP = object()


class Pairs(dict[str, Any]):
    """A decoded JSON object with repeated keys: ``pairs`` holds all of them in order."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _pairs(obj: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return obj.pairs if isinstance(obj, Pairs) else obj.items()


def repeated_paths(value: Any, path: str = "") -> list[str]:
    """Paths of keys that :class:`Pairs` hold more than once, each told once for every time more."""
    found: list[str] = []
    if isinstance(value, dict):
        seen: set[str] = set()
        for key, item in _pairs(value):
            below = f"{path}.{key}" if path else key
            if key in seen:
                found.append(below)
            seen.add(key)
            found += repeated_paths(item, below)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += repeated_paths(item, f"{path}[{index}]")
    return found


def walk(obj: Any, schema: TypeSchema, strict_errors: list[str] | None) -> Obj:
    """The normalised copy of ``obj``. :raises CoercionError: as Go's decoder would fail."""
    walker = _Walker(strict_errors)
    try:
        found = walker.value(obj, schema, _Context(schema.go_type))
    except GoValueError as error:
        raise CoercionError(str(error)) from None
    except RecursionError:
        raise CoercionError(MAX_DEPTH_TEXT) from None
    if walker.first_error:
        raise CoercionError(walker.first_error)
    if strict_errors is not None:
        strict_errors.extend(walker.found)
    return found if isinstance(found, dict) else {}


class _Context:
    """Where the walker is: Go's struct and field stack, and the path for strict errors."""

    __slots__ = ("fields", "path", "struct")

    def __init__(self, struct: str = "", fields: tuple[str, ...] = (), path: str = "") -> None:
        self.struct = struct
        self.fields = fields
        self.path = path

    def field(self, schema: TypeSchema, key: str, field: TypeSchema) -> _Context:
        struct = schema.go_type.rpartition(".")[2]
        via = field.extra.via if isinstance(field.extra, GoField) else ()
        return _Context(struct, (*self.fields, *via, key), self.below(key))

    def below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def at(self, path: str) -> _Context:
        return _Context(self.struct, self.fields, path)

    def describe(self, kind: str, go_type: str) -> str:
        if self.fields:
            field = ".".join(self.fields)
            return (
                f"json: cannot unmarshal {kind} into Go struct field {self.struct}.{field} "
                f"of type {go_type}"
            )
        return f"json: cannot unmarshal {kind} into Go value of type {go_type}"


class _Walker:
    def __init__(self, strict_errors: list[str] | None) -> None:
        self.strict = strict_errors is not None
        self.found: dict[str, None] = {}
        self.first_error = ""

    def report(self, kind: str, path: str) -> None:
        if self.strict and len(self.found) < _MAX_STRICT_ERRORS:
            self.found[f"{kind} field {json.dumps(path, ensure_ascii=False)}"] = None

    def wrong(self, value: Any, go_type: str, context: _Context) -> Any:
        if not self.first_error:
            kind, _ = wrong_type(value, go_type).wrong or ("", "")
            self.first_error = context.describe(kind, go_type)
        return _DROP

    def value(self, value: Any, schema: TypeSchema, context: _Context) -> Any:
        go: GoField = schema.extra
        if go.special:
            return self.special(value, schema, context)
        if schema.kind == "object":
            return self.object(value, schema, context)
        if schema.kind == "list":
            return self.list(value, schema, context)
        if schema.kind == "map":
            return self.map(value, schema, context)
        return self.scalar(value, schema, context)

    def object(self, value: Any, schema: TypeSchema, context: _Context) -> Any:
        if not isinstance(value, dict):
            return self.wrong(value, schema.go_type, context)
        fields, result, seen = schema.fields, dict[str, Any](), set[str]()
        for key, item in _pairs(value):
            field = fields.get(key)
            if field is None:
                self.report("unknown", context.below(key))
                continue
            if key in seen:
                self.report("duplicate", context.below(key))
            seen.add(key)
            if item is None:
                result.pop(key, None)
                continue
            new = self.value(item, field, context.field(schema, key, field))
            if new is _DROP or new is None or (not new and drops_when_empty(field)):
                result.pop(key, None)
            else:
                result[key] = new
        return result

    def list(self, value: Any, schema: TypeSchema, context: _Context) -> Any:
        if not isinstance(value, list):
            return self.wrong(value, schema.go_type, context)
        element, result = schema.element, []
        assert element is not None
        for index, item in enumerate(value):
            inner = context.at(f"{context.path}[{index}]")
            new = _DROP if item is None else self.value(item, element, inner)
            result.append(zero_of(element) if new is _DROP else new)
        return result

    def map(self, value: Any, schema: TypeSchema, context: _Context) -> Any:
        if not isinstance(value, dict):
            return self.wrong(value, schema.go_type, context)
        element, result = schema.element, dict[str, Any]()
        assert element is not None
        for key, item in _pairs(value):
            if isinstance(value, Pairs) and key in result:
                self.report("duplicate", context.below(key))
            new = _DROP
            if item is not None:
                new = self.value(item, element, context.at(context.below(key)))
            result[key] = zero_of(element) if new is _DROP else new
        return result

    def scalar(self, value: Any, schema: TypeSchema, context: _Context) -> Any:
        kind = schema.kind
        if kind == "string":
            fits = isinstance(value, str)
        elif kind == "boolean":
            fits = isinstance(value, bool)
        elif kind == "integer":
            low, high = _RANGES[schema.format]
            fits = type(value) is int and low <= value <= high
        else:
            fits = type(value) in (int, float)
        if fits:
            if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
                return int(value)
            return value
        base = schema.extra.alias if schema.extra.alias in ("int32", "int64") else schema.go_type
        if base != schema.go_type and json_kind(value) == "number" and not self.first_error:
            self.first_error = context.describe(f"number {value}", schema.go_type)
            return _DROP
        return self.wrong(value, schema.go_type, context)

    def special(self, value: Any, schema: TypeSchema, context: _Context) -> Any:
        special = schema.extra.special
        if special in ("raw", "json", "fields"):
            return _plain(value)
        own = _OWN_JSON.get(special)
        try:
            if own is not None:
                return own(value)
            return _SPECIALS[special](value)
        except GoValueError as error:
            if special == "bytes":
                if error.wrong:
                    return self.wrong(value, "[]uint8", context)
                self.first_error = self.first_error or str(error)
                return _DROP
            if error.wrong and not isinstance(error, _OwnJSONError):
                raise GoValueError(context.describe(*error.wrong)) from None
            raise


def zero_of(schema: TypeSchema) -> Any:
    """What Go encodes for an element that JSON gave as null."""
    go: GoField = schema.extra
    if go.pointer or go.special in ("time", "microtime", "json", "raw", "fields"):
        return None
    special = {"quantity": "0", "intstr": 0, "duration": "0s", "bytes": ""}.get(go.special)
    if special is not None:
        return special
    return {
        "object": dict,
        "map": dict,
        "list": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": int,
    }.get(schema.kind, lambda: None)()


class _OwnJSONError(GoValueError):
    """From inside an unmarshaler that decodes a whole object: Go adds no path to it."""


def _json_schema_props(value: Any) -> Obj:
    # A type's own unmarshaler decodes without strictness, so nothing is reported from here.
    try:
        return coerce(_plain(value), definition(_JSON_SCHEMA_PROPS))
    except CoercionError as error:
        raise _OwnJSONError(error.message) from None


def _or_array(value: Any) -> Any:
    if isinstance(value, dict):
        return _json_schema_props(value)
    if isinstance(value, list):
        return [_json_schema_props({} if item is None else item) for item in value]
    return None


def _or_bool(value: Any) -> Any:
    if isinstance(value, dict):
        return _json_schema_props(value)
    if isinstance(value, bool):
        return value
    raise _OwnJSONError("boolean or JSON schema expected")


def _or_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return _json_schema_props(value)
    if not isinstance(value, list):
        return None
    for item in value:
        if item is not None and not isinstance(item, str):
            raise _OwnJSONError(str(wrong_type(item, "string")))
    return ["" if item is None else item for item in value]


_RANGES = {
    "int32": (go_values.INT32_MIN, go_values.INT32_MAX),
    "int64": (go_values.INT64_MIN, go_values.INT64_MAX),
}
_OWN_JSON: dict[str, Callable[[Any], Any]] = {
    "or_array": _or_array,
    "or_bool": _or_bool,
    "or_strings": _or_strings,
}
_SPECIALS: dict[str, Callable[[Any], Any]] = {
    "time": go_values.time,
    "microtime": go_values.micro_time,
    "duration": go_values.duration,
    "quantity": go_values.quantity,
    "intstr": go_values.int_or_string,
    "bytes": go_values.base64_text,
}


def _plain(value: Any) -> Any:
    """``value`` without :class:`Pairs`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def walk_metadata(value: Any, path: str, strict_errors: list[str] | None) -> Obj:
    """ObjectMeta inside a custom object. :raises CoercionError: as Go's decoder would fail."""
    pruner = _Pruner(strict_errors)
    found: Obj = pruner.metadata(value, path)
    if strict_errors is not None:
        strict_errors.extend(pruner.walker.found)
    return found


def prune_custom(obj: Any, schema: TypeSchema, strict_errors: list[str] | None) -> Obj:
    """A custom resource without unknown fields, its metadata coerced as a built-in's."""
    if not isinstance(obj, dict):
        raise CoercionError(str(wrong_type(obj, "map[string]interface {}")))
    pruner = _Pruner(strict_errors)
    try:
        found: Obj = pruner.resource(obj, schema, "")
    except RecursionError:
        raise CoercionError(MAX_DEPTH_TEXT) from None
    if strict_errors is not None:
        strict_errors.extend(pruner.walker.found)
    return found


class _Pruner:
    def __init__(self, strict_errors: list[str] | None) -> None:
        self.walker = _Walker(strict_errors)

    def value(self, value: Any, schema: TypeSchema | None, path: str) -> Any:
        if isinstance(value, dict):
            if schema is not None and schema.embedded_resource:
                return self.resource(value, schema, path)
            return self.object(value, schema, path)
        if isinstance(value, list):
            element = schema.element if schema is not None and schema.kind == "list" else None
            return [
                self.value(item, element, f"{path}[{index}]") for index, item in enumerate(value)
            ]
        return value

    def resource(self, value: dict[str, Any], schema: TypeSchema, path: str) -> Any:
        result = self.object(value, schema, path, own=("apiVersion", "kind", "metadata"))
        for key in ("apiVersion", "kind"):
            if key in result and not isinstance(result[key], str):
                self.raise_wrong(result[key], path, key, "string")
        if result.get("metadata") is not None:
            result["metadata"] = self.metadata(value["metadata"], f"{path}.metadata".lstrip("."))
        elif "metadata" in result:
            del result["metadata"]
        return result

    def raise_wrong(self, value: Any, path: str, key: str, go_type: str) -> None:
        where = f"{path}.{key}".lstrip(".")
        raise CoercionError(
            f"json: cannot unmarshal {json_kind(value)} into Go struct field .{where} "
            f"of type {go_type}"
        )

    def metadata(self, value: Any, path: str) -> Any:
        schema = definition(_OBJECT_META)
        context = _Context("ObjectMeta", (), path)
        try:
            found = self.walker.value(value, schema, context)
        except GoValueError as error:
            raise CoercionError(str(error)) from None
        if self.walker.first_error:
            raise CoercionError(self.walker.first_error)
        return found

    def object(
        self,
        value: dict[str, Any],
        schema: TypeSchema | None,
        path: str,
        own: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        free = schema is None or schema.kind == "any" or schema.preserve_unknown
        element = schema.element if schema is not None and schema.kind == "map" else None
        fields = schema.fields if schema is not None else {}
        is_map = schema is not None and schema.kind == "map"
        for key, item in _pairs(value):
            below = f"{path}.{key}" if path else key
            if isinstance(value, Pairs) and key in result:
                self.walker.report("duplicate", below)
            field = fields.get(key)
            if key in own:
                result[key] = _plain(item)
            elif field is not None:
                result[key] = self.value(item, field, below)
            elif is_map or free:
                result[key] = self.value(item, element, below)
            else:
                self.walker.report("unknown", below)
        return result
