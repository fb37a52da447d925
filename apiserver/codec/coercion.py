"""Checks and normalises decoded objects by their type schema.

:func:`coerce` makes of any JSON value what Go's decoder and encoder make of it: types are
checked, unknown fields dropped, nulls and empty ``omitempty`` values gone, quantities, times and
base64 canonical. The usual case runs through functions compiled per definition that change the
object in place; whatever is unusual (an unknown field, a wrong type) falls back to the walker of
``strict.py``, which knows paths and texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apis.schemas import NO_GO_FIELD, GoField, definition
from pilothouse.apiserver.codec import go_values
from pilothouse.apiserver.codec.go_values import (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    GoValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

    Handler = Callable[[Any], Any]

MAX_DEPTH_TEXT = "exceeded max depth"


class CoercionError(StatusError):
    """An object does not fit its type: 400 with the text of Go's decoder alone.

    ``decode.py`` puts the sentence of the request's kind around it."""

    def __init__(self, text: str) -> None:
        super().__init__(400, "BadRequest", text)


class CustomType(ABC):
    """``TypeSchema.extra`` of a custom kind: its own, compiled way to prune and default."""

    keeps_nulls = True
    """What an apply leaves null stays, and is judged: no Go type drops it."""

    @abstractmethod
    def coerce(self, obj: Any, strict_errors: list[str] | None) -> Obj:
        """As :func:`coerce`."""

    @abstractmethod
    def default(self, obj: Any) -> None:
        """Sets what is missing, in place."""


class _FallbackError(Exception):
    """The compiled functions leave it to the walker."""


def coerce(obj: Any, schema: TypeSchema, strict_errors: list[str] | None = None) -> Obj:
    """``obj`` in canonical wire form; the argument belongs to the function and may change.

    Texts such as ``unknown field "spec.x"`` are appended to ``strict_errors``.

    :raises CoercionError: a value has the wrong type.
    """
    from pilothouse.apiserver.codec import strict

    if not isinstance(schema.extra, GoField):
        if isinstance(schema.extra, CustomType):
            return schema.extra.coerce(obj, strict_errors)
        return strict.prune_custom(obj, schema, strict_errors)
    if type(obj) is dict:
        try:
            found: Obj = compiled(schema.name)(obj)
            return found
        except _FallbackError:
            pass
        except RecursionError:
            raise CoercionError(MAX_DEPTH_TEXT) from None
    return strict.walk(obj, schema, strict_errors)


_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def coerce_metadata(value: Any, path: str, strict_errors: list[str] | None) -> Obj:
    """The metadata of a custom object at ``path``, as :func:`coerce` would make it."""
    if type(value) is dict:
        try:
            found: Obj = compiled(_OBJECT_META)(value)
            return found
        except _FallbackError:
            pass
        except RecursionError:
            raise CoercionError(MAX_DEPTH_TEXT) from None
    from pilothouse.apiserver.codec import strict

    return strict.walk_metadata(value, path, strict_errors)


_COMPILED: dict[str, Handler] = {}


def compiled(name: str) -> Handler:
    """The function for a built-in definition; it returns its argument."""
    found = _COMPILED.get(name)
    if found is None:
        found = _COMPILED[name] = _compile_object(definition(name))
    return found


def drops_when_empty(schema: TypeSchema) -> bool:
    """The field is left out when it holds its type's zero value."""
    go: GoField = schema.extra
    if not schema.omit_empty or go.pointer or schema.kind in ("object", "any"):
        return False
    return go.special in ("", "bytes")


_PLAIN = {"string": str, "boolean": bool}


def _compile_object(schema: TypeSchema) -> Handler:
    plain: dict[str, type] = {}
    handlers: dict[str, Handler] = {}
    droppable: set[str] = set()
    for key, field in schema.fields.items():
        special = field.extra.special
        if field.kind in _PLAIN and not special:
            plain[key] = _PLAIN[field.kind]
        handlers[key] = _field_handler(field, handlers, key)
        if drops_when_empty(field):
            droppable.add(key)
    return _object_check(plain, handlers, droppable)


def _object_check(
    plain: dict[str, type], handlers: dict[str, Handler], droppable: set[str]
) -> Handler:
    plain_get, handler_get = plain.get, handlers.get

    def check(obj: Any) -> Any:
        if type(obj) is not dict:
            raise _FallbackError
        gone: list[str] | None = None
        changed: dict[str, Any] | None = None
        for key, value in obj.items():
            if value and type(value) is plain_get(key):
                continue
            handler = handler_get(key)
            if handler is None:
                raise _FallbackError
            new = None if value is None else handler(value)
            if new is None or (not new and key in droppable):
                if gone is None:
                    gone = []
                gone.append(key)
            elif new is not value:
                if changed is None:
                    changed = {}
                changed[key] = new
        if changed is not None:
            obj.update(changed)
        if gone is not None:
            for key in gone:
                del obj[key]
        return obj

    return check


def _field_handler(field: TypeSchema, table: dict[str, Handler], key: str) -> Handler:
    """A handler that, for objects, replaces itself in ``table`` when first used."""
    if field.kind != "object":
        return value_handler(field)
    name = field.name

    def resolve(value: Any) -> Any:
        table[key] = found = compiled(name)
        return found(value)

    return resolve


def value_handler(schema: TypeSchema) -> Handler:
    """The function for a value of ``schema``; it may return another value."""
    go: GoField = schema.extra or NO_GO_FIELD
    if go.special:
        return _SPECIAL_HANDLERS[go.special]
    if schema.kind == "object":
        name = schema.name
        return lambda value: compiled(name)(value)
    if schema.kind == "list":
        return _list_handler(schema)
    if schema.kind == "map":
        return _map_handler(schema)
    return _SCALAR_HANDLERS[schema.kind, schema.format]


def _list_handler(schema: TypeSchema) -> Handler:
    element = schema.element
    assert element is not None
    handler: Handler | None = None
    plain = _PLAIN.get(element.kind) if not element.extra.special else None

    def check(value: Any) -> Any:
        nonlocal handler
        if type(value) is not list:
            raise _FallbackError
        if plain is not None:
            for item in value:
                if type(item) is not plain:
                    raise _FallbackError
            return value
        if handler is None:
            assert element is not None
            handler = compiled(element.name) if element.kind == "object" else value_handler(element)
        for index, item in enumerate(value):
            if item is None:
                raise _FallbackError
            new = handler(item)
            if new is not item:
                if new is None:
                    raise _FallbackError
                value[index] = new
        return value

    return check


def _map_handler(schema: TypeSchema) -> Handler:
    element = schema.element
    assert element is not None
    handler: Handler | None = None
    plain = _PLAIN.get(element.kind) if not element.extra.special else None

    def check(value: Any) -> Any:
        nonlocal handler
        if type(value) is not dict:
            raise _FallbackError
        if plain is not None:
            for item in value.values():
                if type(item) is not plain:
                    raise _FallbackError
            return value
        if handler is None:
            assert element is not None
            handler = value_handler(element)
        for key, item in value.items():
            if item is None:
                raise _FallbackError
            new = handler(item)
            if new is not item:
                if new is None:
                    raise _FallbackError
                value[key] = new
        return value

    return check


def _string(value: Any) -> Any:
    if type(value) is not str:
        raise _FallbackError
    return value


def _boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise _FallbackError
    return value


def _int32(value: Any) -> Any:
    if type(value) is not int or not INT32_MIN <= value <= INT32_MAX:
        raise _FallbackError
    return value


def _int64(value: Any) -> Any:
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise _FallbackError
    return value


def _number(value: Any) -> Any:
    if type(value) is float:
        # Go prints whole floats without a fraction.
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if type(value) is not int:
        raise _FallbackError
    return value


def _walker_only(value: Any) -> Any:
    raise _FallbackError


def _any(value: Any) -> Any:
    return value


def _guarded(function: Handler) -> Handler:
    def handler(value: Any) -> Any:
        try:
            return function(value)
        except GoValueError:
            raise _FallbackError from None

    return handler


_SCALAR_HANDLERS: dict[tuple[str, str], Handler] = {
    ("string", ""): _string,
    ("boolean", ""): _boolean,
    ("integer", "int32"): _int32,
    ("integer", "int64"): _int64,
    ("number", "double"): _number,
}
_SPECIAL_HANDLERS: dict[str, Handler] = {
    "time": _guarded(go_values.time),
    "microtime": _guarded(go_values.micro_time),
    "duration": _guarded(go_values.duration),
    "quantity": _guarded(go_values.quantity),
    "intstr": _guarded(go_values.int_or_string),
    "bytes": _guarded(go_values.base64_text),
    "raw": _any,
    "json": _any,
    "fields": _any,
    "or_array": _walker_only,
    "or_bool": _walker_only,
    "or_strings": _walker_only,
}
