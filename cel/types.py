"""CEL's static types, as the checker compares and prints them.

A type is its kind, its name and its parameters; objects add fields. Types are immutable and are
compared by their text, which is what error messages show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Type:
    """``kind`` is one of the names of the constants below, ``object``, ``opaque``, ``param``."""

    __slots__ = ("fields", "kind", "name", "params", "schema", "text")

    def __init__(
        self,
        kind: str,
        name: str = "",
        params: tuple[Type, ...] = (),
        *,
        fields: Mapping[str, Field] | None = None,
        schema: Any = None,
    ) -> None:
        self.kind = kind
        self.name = name or kind
        self.params = params
        self.fields: Mapping[str, Field] = fields if fields is not None else {}
        """Of an object, by the names that expressions use."""
        self.schema = schema
        """What a declared type was made of (``schema_types.DeclaredType``)."""
        inner = ", ".join(param.text for param in params)
        self.text: str = f"{self.name}({inner})" if params else _SHOWN.get(kind, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self.text == other.text and self.kind == other.kind

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text

    def field(self, name: str) -> Field | None:
        """A field by the name that expressions use; a keyword need not be escaped."""
        return self.fields.get(name) or self.fields.get(f"__{name}__")

    @property
    def is_dyn(self) -> bool:
        return self.kind in ("dyn", "any")

    @property
    def is_optional(self) -> bool:
        return self.kind == "opaque" and self.name == "optional_type"


class Field:
    """A field of an object: its name on the wire, and its type, made when it is asked for."""

    __slots__ = ("_load", "_type", "name")

    def __init__(self, name: str, type_: Type | Callable[[], Type]) -> None:
        self.name = name
        self._type: Type | None = type_ if isinstance(type_, Type) else None
        self._load: Callable[[], Type] | None = None if isinstance(type_, Type) else type_

    @property
    def type(self) -> Type:
        if self._type is None:
            assert self._load is not None
            self._type = self._load()
        return self._type


_SHOWN = {"error": "!error!", "null": "null", "timestamp": "timestamp", "duration": "duration"}

BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
NULL = Type("null", "null_type")
TIMESTAMP = Type("timestamp", "google.protobuf.Timestamp")
DURATION = Type("duration", "google.protobuf.Duration")
DYN = Type("dyn")
ANY = Type("any")
ERROR = Type("error", "*error*")
TYPE = Type("type")


def list_of(element: Type, schema: Any = None) -> Type:
    return Type("list", "list", (element,), schema=schema)


def map_of(key: Type, value: Type, schema: Any = None) -> Type:
    return Type("map", "map", (key, value), schema=schema)


def optional_of(inner: Type) -> Type:
    return Type("opaque", "optional_type", (inner,))


def opaque(name: str, *params: Type) -> Type:
    return Type("opaque", name, params)


def param(name: str) -> Type:
    return Type("param", name)


def type_of(inner: Type) -> Type:
    return Type("type", "type", (inner,))


def object_of(name: str, fields: Mapping[str, Field], schema: Any = None) -> Type:
    """An object with these fields and no others."""
    return Type("object", name, (), fields=fields, schema=schema)


def unwrapped(type_: Type) -> tuple[Type, bool]:
    """What is in an optional, and whether it was one."""
    return (type_.params[0], True) if type_.is_optional else (type_, False)


_NAMED = {
    "bool": BOOL,
    "int": INT,
    "uint": UINT,
    "double": DOUBLE,
    "string": STRING,
    "bytes": BYTES,
    "null_type": NULL,
    "timestamp": TIMESTAMP,
    "duration": DURATION,
    "dyn": DYN,
    "type": TYPE,
}


def parse(text: str) -> Type:
    """The type that a library's table names: ``map(string, list(A))``; A and B are parameters."""
    found, rest = _parse(text)
    assert not rest, text
    return found


def _parse(text: str) -> tuple[Type, str]:
    end = 0
    while end < len(text) and text[end] not in "(),":
        end += 1
    name, rest = text[:end].strip(), text[end:]
    params: list[Type] = []
    if rest.startswith("("):
        rest = rest[1:]
        while True:
            inner, rest = _parse(rest)
            params.append(inner)
            stop, rest = rest[0], rest[1:].lstrip()
            if stop == ")":
                break
    if name == "list":
        return list_of(params[0]), rest
    if name == "map":
        return map_of(params[0], params[1]), rest
    if name == "optional":
        return optional_of(params[0]), rest
    if name == "type" and params:
        return type_of(params[0]), rest
    if len(name) == 1 and name.isupper():
        return param(name), rest
    if name.startswith("kubernetes."):
        return object_of(name, {}), rest
    return _NAMED.get(name) or opaque(name, *params), rest
