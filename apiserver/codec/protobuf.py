"""Kubernetes' protobuf by type schema: the envelope and the messages of all built-in kinds.

Messages become wire dicts (and back) with the field numbers in ``GoField``; there is no generated
code. Decoding skips unknown fields and yields what Go's JSON encoder would print, up to empty
values, which ``coercion.py`` drops next. Encoding writes the same bytes as Go: fields by number,
zero values of non-pointers included, map keys sorted.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import protobuf_wire as wire
from pilothouse.apimachinery.protobuf_wire import ProtobufError
from pilothouse.apis.schemas import GoField, definition
from pilothouse.apiserver.codec import protobuf_special as special

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind
    from pilothouse.apimachinery.typeschema import TypeSchema

__all__ = ["Envelope", "ProtobufError", "decode_object", "encode_object", "open_envelope", "seal"]

MAGIC = b"k8s\x00"


@dataclass(frozen=True, slots=True)
class Envelope:
    """runtime.Unknown: the kind of an object and its message."""

    api_version: str
    kind: str
    raw: bytes


def open_envelope(body: bytes) -> Envelope:
    """:raises ProtobufError: with the serializer's text."""
    if not body:
        raise ProtobufError("empty data")
    if body[:4] != MAGIC:
        raise ProtobufError(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    if len(body) == 4:
        raise ProtobufError("empty body")
    api_version = kind = ""
    raw = b""
    for number, _, value in wire.fields(body[4:]):
        if number == 1 and isinstance(value, bytes):
            for inner, _, text in wire.fields(value):
                if isinstance(text, bytes) and inner in (1, 2):
                    if inner == 1:
                        api_version = text.decode("utf-8", "replace")
                    else:
                        kind = text.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, bytes):
            raw = value
    return Envelope(api_version, kind, raw)


def seal(gvk: GroupVersionKind, raw: bytes) -> bytes:
    """The body of a request or answer around an encoded message."""
    type_meta = wire.delimited(1, gvk.api_version.encode()) + wire.delimited(2, gvk.kind.encode())
    content = wire.delimited(1, type_meta) + wire.delimited(2, raw)
    return MAGIC + content + wire.delimited(3, b"") + wire.delimited(4, b"")


def decode_object(data: bytes, schema: TypeSchema) -> Obj:
    """The wire dict of a message. :raises ProtobufError: it is malformed."""
    try:
        return _decode_message(data, _layout(schema.name))
    except RecursionError:
        raise ProtobufError("exceeded max depth") from None
    except (struct.error, OverflowError) as error:
        raise ProtobufError(f"proto: {error}") from None


def encode_object(obj: Obj, schema: TypeSchema) -> bytes:
    """The message of a wire dict in canonical form (``coerce`` makes it so)."""
    return _encode_message(obj, _layout(schema.name))


@dataclass(frozen=True, slots=True)
class _Member:
    number: int
    key: str
    """"" for an embedded message whose fields JSON shows in the outer object."""
    schema: TypeSchema


@dataclass(frozen=True, slots=True)
class _Layout:
    by_number: dict[int, _Member]
    ordered: tuple[_Member, ...]


_LAYOUTS: dict[str, _Layout] = {}


def _layout(name: str) -> _Layout:
    found = _LAYOUTS.get(name)
    if found is None:
        schema = definition(name)
        members = [
            _Member(field.extra.number, key, field)
            for key, field in schema.fields.items()
            if field.extra.number and not field.extra.via
        ]
        members += [_Member(n, "", definition(inner)) for n, inner in schema.extra.inline]
        members.sort(key=lambda member: member.number)
        found = _LAYOUTS[name] = _Layout({m.number: m for m in members}, tuple(members))
    return found


def _decode_message(data: bytes, layout: _Layout) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, wire_type, value in wire.fields(data):
        member = layout.by_number.get(number)
        if member is None:
            continue
        key, schema = member.key, member.schema
        if not key:
            result.update(_decode_message(_message(value, member), _layout(schema.name)))
        elif _is_repeated(schema):
            assert schema.element is not None
            _decode_repeated(result.setdefault(key, []), schema.element, wire_type, value, member)
        elif schema.kind == "map" and not schema.extra.special:
            assert schema.element is not None
            entry_key, entry = _decode_entry(_message(value, member), schema.element, member)
            result.setdefault(key, {})[entry_key] = entry
        else:
            result[key] = _decode_value(value, schema, member)
    return result


def _is_repeated(schema: TypeSchema) -> bool:
    go: GoField = schema.extra
    return schema.kind == "list" and not go.special and not go.list_message


def _message(value: wire.Value, member: _Member) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError(f"proto: wrong wireType = 0 for field {member.key or member.number}")
    return value


def _decode_repeated(
    target: list[Any], element: TypeSchema, wire_type: int, value: wire.Value, member: _Member
) -> None:
    packed = wire_type == wire.BYTES and element.kind in ("integer", "boolean", "number")
    if not packed:
        target.append(_decode_value(value, element, member))
        return
    data, at = _message(value, member), 0
    while at < len(data):
        if element.kind == "number":
            target.append(_decode_value(data[at : at + 8], element, member))
            at += 8
        else:
            one, at = wire.read_varint(data, at)
            target.append(_decode_value(one, element, member))


def _decode_entry(data: bytes, element: TypeSchema, member: _Member) -> tuple[str, Any]:
    key, value = "", None
    for number, _, content in wire.fields(data):
        if number == 1:
            key = _text(_message(content, member))
        elif number == 2:
            value = _decode_value(content, element, member)
    return key, _empty(element) if value is None else value


def _empty(schema: TypeSchema) -> Any:
    """A map value whose field 2 is absent: an empty message or a zero."""
    go: GoField = schema.extra
    if schema.kind in ("list", "map"):
        return [] if schema.kind == "list" else {}
    zero: wire.Value = 0 if schema.kind in ("integer", "boolean") and not go.special else b""
    return _decode_value(zero, schema, None)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _decode_value(value: wire.Value, schema: TypeSchema, member: _Member | None) -> Any:
    go: GoField = schema.extra
    kind = schema.kind
    if kind in ("integer", "boolean") and not go.special:
        if not isinstance(value, int):
            raise ProtobufError(f"proto: wrong wireType = 2 for field {_name(member)}")
        if kind == "boolean":
            return value != 0
        return wire.signed32(value) if schema.format == "int32" else wire.signed(value)
    if not isinstance(value, bytes):
        raise ProtobufError(f"proto: wrong wireType = 0 for field {_name(member)}")
    if go.special == "bytes":
        return base64.b64encode(value).decode()
    if go.special in _OWN_MESSAGES:
        return _OWN_MESSAGES[go.special][0](value)
    if go.special:
        return special.decode(go.special, value)
    if kind == "object":
        return _decode_message(value, _layout(schema.name))
    if kind == "string":
        return _text(value)
    if kind == "number":
        return struct.unpack("<d", value)[0] if value else 0.0
    # A named list or map in a message of its own: ExtraValue has its elements as field 1.
    assert schema.element is not None
    return [
        _decode_value(item, schema.element, member)
        for number, _, item in wire.fields(value)
        if number == 1
    ]


def _name(member: _Member | None) -> str:
    return member.key if member is not None else "value"


def _encode_message(obj: dict[str, Any], layout: _Layout) -> bytes:
    out: list[bytes] = []
    for member in layout.ordered:
        schema = member.schema
        if not member.key:
            out.append(wire.delimited(member.number, _encode_message(obj, _layout(schema.name))))
            continue
        value = obj.get(member.key)
        if _is_repeated(schema):
            element = schema.element
            assert element is not None
            out.extend(_encode_value(member.number, item, element) for item in value or ())
        elif schema.kind == "map" and not schema.extra.special:
            assert schema.element is not None
            for key in sorted(value or ()):
                entry = wire.delimited(1, key.encode())
                entry += _encode_value(2, (value or {})[key], schema.element)
                out.append(wire.delimited(member.number, entry))
        elif value is not None or not _is_nil(schema):
            out.append(_encode_value(member.number, value, schema))
    return b"".join(out)


def _is_nil(schema: TypeSchema) -> bool:
    """An absent value of this type takes no bytes: pointers and byte slices."""
    go: GoField = schema.extra
    return go.pointer or go.special == "bytes"


def _encode_value(number: int, value: Any, schema: TypeSchema) -> bytes:
    go: GoField = schema.extra
    if go.special == "bytes":
        return wire.delimited(number, base64.b64decode(value or ""))
    if go.special in _OWN_MESSAGES:
        return wire.delimited(number, _OWN_MESSAGES[go.special][1](value))
    if go.special:
        return wire.delimited(number, special.encode(go.special, value))
    if schema.kind == "object":
        return wire.delimited(number, _encode_message(value or {}, _layout(schema.name)))
    if schema.kind == "string":
        return wire.delimited(number, (value or "").encode("utf-8", "surrogatepass"))
    if schema.kind in ("integer", "boolean"):
        return wire.number(number, int(value or 0))
    if schema.kind == "number":
        return wire.tag(number, wire.FIXED64) + struct.pack("<d", value or 0)
    element = schema.element
    assert element is not None
    items = b"".join(_encode_value(1, item, element) for item in value or ())
    return wire.delimited(number, items)


_SCHEMA_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


def _decode_or(data: bytes) -> tuple[Any, list[Any], bool]:
    """(schema, the other message's elements, allows) of a JSONSchemaPropsOr… message."""
    schema, others, allows = None, [], False
    for number, _, value in wire.fields(data):
        if isinstance(value, int):
            allows = value != 0
        elif number == 1:
            schema = _decode_message(value, _layout(_SCHEMA_PROPS))
        else:
            others.append(value)
    return schema, others, allows


def _decode_or_array(data: bytes) -> Any:
    schema, others, _ = _decode_or(data)
    if others:
        return [_decode_message(value, _layout(_SCHEMA_PROPS)) for value in others]
    return schema


def _decode_or_bool(data: bytes) -> Any:
    _, others, allows = _decode_or(data)
    return _decode_message(others[-1], _layout(_SCHEMA_PROPS)) if others else allows


def _decode_or_strings(data: bytes) -> Any:
    schema = None
    texts: list[str] = []
    for number, _, value in wire.fields(data):
        if isinstance(value, bytes) and number == 1:
            schema = _decode_message(value, _layout(_SCHEMA_PROPS))
        elif isinstance(value, bytes):
            texts.append(_text(value))
    return texts if texts else schema


def _encode_props(number: int, value: Any) -> bytes:
    return wire.delimited(number, _encode_message(value, _layout(_SCHEMA_PROPS)))


def _encode_or_array(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_encode_props(2, item) for item in value)
    return _encode_props(1, value) if value is not None else b""


def _encode_or_bool(value: Any) -> bytes:
    if isinstance(value, dict):
        return wire.number(1, 1) + _encode_props(2, value)
    return wire.number(1, 1 if value else 0)


def _encode_or_strings(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(wire.delimited(2, item.encode()) for item in value)
    return _encode_props(1, value) if value is not None else b""


_OWN_MESSAGES: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "or_array": (_decode_or_array, _encode_or_array),
    "or_bool": (_decode_or_bool, _encode_or_bool),
    "or_strings": (_decode_or_strings, _encode_or_strings),
}
