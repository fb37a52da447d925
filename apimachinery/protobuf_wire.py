"""Protobuf's wire format: tags, varints and lengths, without any schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)

Value = int | bytes


class ProtobufError(ValueError):
    """The message is malformed; texts as gogo's generated code has them."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned value at ``at`` and the position after it."""
    result = shift = 0
    while True:
        if shift >= 64:
            raise ProtobufError("proto: integer overflow")
        if at >= len(data):
            raise ProtobufError("unexpected EOF")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """(number, wire type, value) of every field; groups are skipped."""
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number <= 0:
            raise ProtobufError(f"proto: illegal tag {number} (wire type {wire})")
        if wire == BYTES:
            length, at = read_varint(data, at)
            if at + length > end:
                raise ProtobufError("unexpected EOF")
            yield number, wire, data[at : at + length]
            at += length
        elif wire == VARINT:
            value, at = read_varint(data, at)
            yield number, wire, value
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            if at + size > end:
                raise ProtobufError("unexpected EOF")
            yield number, wire, data[at : at + size]
            at += size
        elif wire == START_GROUP:
            at = _skip_group(data, at)
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")


def _skip_group(data: bytes, at: int) -> int:
    depth = 1
    while depth:
        tag, at = read_varint(data, at)
        wire = tag & 7
        if wire == START_GROUP:
            depth += 1
        elif wire == END_GROUP:
            depth -= 1
        elif wire == VARINT:
            _, at = read_varint(data, at)
        elif wire == BYTES:
            length, at = read_varint(data, at)
            at += length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if at > len(data):
            raise ProtobufError("unexpected EOF")
    return at


def signed(value: int) -> int:
    """An int64 from the unsigned value of a varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def signed32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def varint(value: int) -> bytes:
    """Negative numbers take ten bytes, as int32 and int64 do."""
    value &= 0xFFFFFFFFFFFFFFFF
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def delimited(number: int, content: bytes) -> bytes:
    return tag(number, BYTES) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return tag(field, VARINT) + varint(value)
