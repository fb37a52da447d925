"""Protobuf messages of plugins as dicts, by small tables. Pure.

The plugins' interfaces have a handful of messages with strings, numbers, lists and maps, so that no
generated code is needed. Unknown fields are passed over, absent ones have proto3's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Message = Mapping[int, "Field"]
Kind = Literal["string", "int", "bool"] | Message
_DEFAULTS = {"string": "", "int": 0, "bool": False}
_INT64 = 1 << 64


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind = "string"
    many: bool = False
    """repeated"""
    by_name: bool = False
    """map<string, kind>"""


class Malformed(ValueError):
    """Not a protobuf message of this kind."""


def encode(message: Message, obj: Mapping[str, Any]) -> bytes:
    parts = []
    for number, field in message.items():
        value = obj.get(field.name)
        if value is None:
            continue
        if field.by_name:
            entry: Message = {1: Field("key"), 2: Field("value", field.kind)}
            for key in sorted(value):
                parts.append(_delimited(number, encode(entry, {"key": key, "value": value[key]})))
        elif field.many:
            parts += [_encode(number, field.kind, each, keep=True) for each in value]
        else:
            parts.append(_encode(number, field.kind, value))
    return b"".join(parts)


def _encode(number: int, kind: Kind, value: Any, *, keep: bool = False) -> bytes:
    """``keep``: also what is the default."""
    if not isinstance(kind, str):
        return _delimited(number, encode(kind, value))
    if not keep and value == _DEFAULTS[kind]:
        return b""
    if kind == "string":
        return _delimited(number, value.encode())
    return _varint(number << 3) + _varint(int(value) % _INT64)


def decode(message: Message, data: bytes) -> dict[str, Any]:
    """:raises Malformed: it is none."""
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
    for number, value in _fields(data):
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
        raise Malformed("proto: wrong wireType")
    if kind == "bool":
        return bool(value)
    return value - _INT64 if value >> 63 else value


def _need_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed("proto: wrong wireType")
    return value


def _delimited(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise Malformed("proto: unexpected EOF")


_FIXED = {1: 8, 5: 4}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _read_varint(data, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, at = _read_varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise Malformed(f"proto: illegal wireType {kind}")
        if at + size > len(data):
            raise Malformed("proto: unexpected EOF")
        yield tag >> 3, data[at : at + size]
        at += size
