"""CEL types of structural schemas and of built-in kinds.

A :class:`Declared` is a type with what a schema says besides: how large a value may be (for
cost estimates), and how JSON becomes what expressions see (times, bytes, doubles). Names that
are no identifiers are escaped; fields whose type is not known are left out, as upstream does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pilothouse.cel import types
from pilothouse.cel.parser import RESERVED
from pilothouse.cel.schema_values import Convert, converter_of
from pilothouse.cel.types import Field, Type

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema

Schema = dict[str, Any]
MAX_REQUEST = 3 * 1024 * 1024
_MAX_TEXT = MAX_REQUEST - 2
_NAME_MAX = 253
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SCALARS: dict[str, tuple[Type, int]] = {
    "boolean": (types.BOOL, 4),
    "number": (types.DOUBLE, 1),
    "integer": (types.INT, 1),
}
_FORMATS: dict[str, tuple[Type, int, int]] = {
    "duration": (types.DURATION, 3, 32),
    "date": (types.TIMESTAMP, 12, 12),
    "date-time": (types.TIMESTAMP, 21, 32),
}
"""Type, smallest and greatest size as JSON."""


class Declared:
    """``max_elements``: characters, items or entries; 0 where size means nothing."""

    __slots__ = (
        "convert",
        "element",
        "fields",
        "key",
        "list_type",
        "map_keys",
        "max_elements",
        "min_size",
        "type",
    )

    def __init__(self, type_: Type, min_size: int, max_elements: int = 0) -> None:
        self.type = type_
        self.min_size = min_size
        self.max_elements = max_elements
        self.fields: dict[str, Declared] = {}
        self.key: Declared | None = None
        self.element: Declared | None = None
        self.list_type = ""
        self.map_keys: tuple[str, ...] = ()
        self.convert: Convert | None = None
        """From JSON to what expressions see; None when that is the same."""


def escape(name: str) -> str | None:
    """A property's name in expressions; None: it can't be written."""
    if name in RESERVED:
        return f"__{name}__"
    escaped = (
        name.replace("__", "__underscores__")
        .replace(".", "__dot__")
        .replace("-", "__dash__")
        .replace("/", "__slash__")
    )
    return escaped if _IDENTIFIER.fullmatch(escaped) else None


def declared(schema: Schema, *, root: bool = False, name: str = "selfType") -> Declared | None:
    """The type of a structural schema; None: it has none. ``root``: it is an object with
    apiVersion, kind and metadata."""
    found = _declared(schema, root, name)
    if found is not None:
        found.convert = converter_of(found, schema)
    return found


def _declared(schema: Schema, root: bool, name: str) -> Declared | None:
    if schema.get("x-kubernetes-int-or-string"):
        length = schema.get("maxLength")
        return Declared(types.DYN, 1, _MAX_TEXT if length is None else max(length, 0) * 4)
    if root:
        schema = with_object_meta(schema)
    kind = schema.get("type") or ""
    if kind == "array":
        return _list(schema, name)
    if kind == "object":
        return _object(schema, name)
    if kind == "string":
        return _string(schema)
    scalar = _SCALARS.get(kind)
    return None if scalar is None else Declared(*scalar)


def with_object_meta(schema: Schema) -> Schema:
    """What each resource has, and of its metadata what rules may see."""
    properties = schema.get("properties") or {}
    metadata = properties.get("metadata") or {}
    inner = metadata.get("properties") or {}
    if _are_texts(properties, "kind", "apiVersion") and _are_texts(inner, "name", "generateName"):
        return schema
    text = {"type": "string"}
    names = {
        "name": _capped(inner.get("name"), _NAME_MAX),
        "generateName": _capped(inner.get("generateName"), _NAME_MAX - 1),
    }
    properties = {
        **properties,
        "kind": text,
        "apiVersion": text,
        "metadata": {"type": "object", "properties": names},
    }
    return {**schema, "properties": properties}


def _are_texts(properties: Schema, *names: str) -> bool:
    return all((properties.get(name) or {}).get("type") == "string" for name in names)


def _capped(schema: Schema | None, limit: int) -> Schema:
    length = (schema or {}).get("maxLength")
    return {"type": "string", "maxLength": limit if length is None else min(length, limit)}


def _child(schema: Schema, name: str) -> Declared | None:
    return declared(schema, root=bool(schema.get("x-kubernetes-embedded-resource")), name=name)


def _list(schema: Schema, name: str) -> Declared | None:
    items = schema.get("items")
    element = _child(items, f"{name}.@idx") if isinstance(items, dict) else None
    if element is None:
        return None
    limit = schema.get("maxItems")
    if limit is None:
        limit = _MAX_TEXT // (element.min_size + 1)
    found = Declared(types.list_of(element.type), 2, max(limit, 0))
    found.element = element
    found.list_type = schema.get("x-kubernetes-list-type") or ""
    found.map_keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    found.type.schema = found
    return found


def _object(schema: Schema, name: str) -> Declared | None:
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        element = _child(additional, f"{name}.@elem")
        if element is None:
            return None
        limit = schema.get("maxProperties")
        if limit is None:
            limit = _MAX_TEXT // (element.min_size + 6)
        found = Declared(types.map_of(types.STRING, element.type), 2, max(limit, 0))
        found.element, found.key = element, Declared(types.STRING, 2)
        found.type.schema = found
        return found
    required = set(schema.get("required") or ())
    size, fields = 2, dict[str, Declared]()
    names: dict[str, Field] = {}
    for key, property_ in (schema.get("properties") or {}).items():
        escaped = escape(key)
        field = _child(property_, f"{name}.{escaped or key}")
        if field is None:
            continue
        if escaped is not None:
            fields[escaped] = field
            names[escaped] = Field(key, field.type)
        if key in required and property_.get("default") is None:
            size += len(key.encode()) + field.min_size + 4
    found = Declared(types.object_of(name, names), size)
    found.fields = fields
    found.type.schema = found
    return found


def _string(schema: Schema) -> Declared:
    format_, length = schema.get("format") or "", schema.get("maxLength")
    timed = _FORMATS.get(format_)
    if timed is not None:
        return Declared(*timed)
    if format_ == "byte":
        return Declared(types.BYTES, 2, _MAX_TEXT if length is None else max(length, 0))
    if length is not None:
        return Declared(types.STRING, 2, max(length, 0) * 4)
    values = schema.get("enum")
    if values:
        longest = max((len(v.encode()) for v in values if isinstance(v, str)), default=0)
        return Declared(types.STRING, 2, longest)
    return Declared(types.STRING, 2, _MAX_TEXT)


_BUILT_IN: dict[str, Type] = {
    "string": types.STRING,
    "integer": types.INT,
    "number": types.DOUBLE,
    "boolean": types.BOOL,
}
_BUILT_IN_FORMATS = {"date-time": types.TIMESTAMP, "byte": types.BYTES}


def built_in_type(schema: TypeSchema, *, times: bool = True) -> Type:
    """The type of a built-in kind, for checks: fields are made when they are asked for.

    ``times``: what has the format of a time is one; else it is text.
    """
    if schema.int_or_string:
        return types.DYN
    if schema.kind == "string" and times:
        format_ = _BUILT_IN_FORMATS.get(schema.format)
        if format_ is not None:
            return format_
    scalar = _BUILT_IN.get(schema.kind)
    if scalar is not None:
        return scalar
    if schema.kind == "list" and schema.element is not None:
        return types.list_of(built_in_type(schema.element, times=times))
    if schema.kind == "map" and schema.element is not None:
        return types.map_of(types.STRING, built_in_type(schema.element, times=times))
    if schema.kind == "object" and schema.fields:
        return types.object_of(schema.name or "object", _fields(schema, times))
    return types.DYN


def _fields(schema: TypeSchema, times: bool) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for key, field in schema.fields.items():
        escaped = escape(key)
        if escaped is not None:
            found[escaped] = Field(key, _later(field, times))
    return found


def _later(schema: TypeSchema, times: bool) -> Any:
    return lambda: built_in_type(schema, times=times)
