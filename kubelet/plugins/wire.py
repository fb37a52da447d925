"""Protobuf messages of plugins as dicts, by small tables. Pure.

The plugins' interfaces have a handful of messages with strings, numbers, lists and maps, so that no
generated code is needed. Unknown fields are passed over, absent ones have proto3's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pilothouse.apimachinery import protobuf_wire
from pilothouse.apimachinery.protobuf_wire import ProtobufError, delimited

Message = Mapping[int, "Field"]
Kind = Literal["string", "int", "bool"] | Message
_DEFAULTS = {"string": "", "int": 0, "bool": False}


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind = "string"
    many: bool = False
    """repeated"""
    by_name: bool = False
    """map<string, kind>"""


def encode(message: Message, obj: Mapping[str, Any]) -> bytes:
    parts = []
    for number, field in message.items():
        value = obj.get(field.name)
        if value is None:
            continue
        if field.by_name:
            entry: Message = {1: Field("key"), 2: Field("value", field.kind)}
            for key in sorted(value):
                parts.append(delimited(number, encode(entry, {"key": key, "value": value[key]})))
        elif field.many:
            parts += [_encode(number, field.kind, each, keep=True) for each in value]
        else:
            parts.append(_encode(number, field.kind, value))
    return b"".join(parts)


def _encode(number: int, kind: Kind, value: Any, *, keep: bool = False) -> bytes:
    """``keep``: also what is the default."""
    if not isinstance(kind, str):
        return delimited(number, encode(kind, value))
    if not keep and value == _DEFAULTS[kind]:
        return b""
    if kind == "string":
        return delimited(number, value.encode())
    return protobuf_wire.number(number, int(value))


def decode(message: Message, data: bytes) -> dict[str, Any]:
    """:raises ProtobufError: it is none."""
    result: dict[str, Any] = {}
    for field in message.values():
        if field.by_name:
            result[field.name] = {}
        elif field.many:
            result[field.name] = []
        elif isinstance(field.kind, str):
            result[field.name] = _DEFAULTS[field.kind]
        else:
            result[field.name] = None
    for number, _, value in protobuf_wire.fields(data):
        known = message.get(number)
        if known is None:
            continue
        if known.by_name:
            pair = decode({1: Field("key"), 2: Field("value", known.kind)}, _need_bytes(value))
            result[known.name][pair["key"]] = pair["value"]
        elif known.many:
            result[known.name].append(_decode(known.kind, value))
        else:
            result[known.name] = _decode(known.kind, value)
    return result


def _decode(kind: Kind, value: int | bytes) -> Any:
    if not isinstance(kind, str):
        return decode(kind, _need_bytes(value))
    if kind == "string":
        return _need_bytes(value).decode(errors="replace")
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType")
    if kind == "bool":
        return bool(value)
    return protobuf_wire.signed(value)


def _need_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType")
    return value
