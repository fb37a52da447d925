"""Protobuf messages of the types that are a scalar or free JSON on the wire.

Time, MicroTime, Duration, Quantity, IntOrString, RawExtension, JSON and FieldsV1.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery import protobuf_wire as wire
from pilothouse.apimachinery.protobuf_wire import ProtobufError
from pilothouse.apimachinery.timefmt import (
    format_duration_nanoseconds,
    format_micro_time,
    format_time,
    parse_duration_nanoseconds,
    parse_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode(name: str, data: bytes) -> Any:
    """The JSON value of a special message; None where Go's encoder prints null."""
    return _DECODERS[name](data)


def encode(name: str, value: Any) -> bytes:
    return _ENCODERS[name](value)


def _ints(data: bytes) -> dict[int, int]:
    return {n: wire.signed(v) for n, _, v in wire.fields(data) if isinstance(v, int)}


def _instant(data: bytes, micro: bool) -> datetime:
    found = _ints(data)
    try:
        nanos = wire.signed32(found.get(2, 0)) if micro else 0
        return _EPOCH + timedelta(seconds=found.get(1, 0), microseconds=int(nanos / 1000))
    except OverflowError:
        raise ProtobufError("proto: time out of range") from None


def _decode_time(data: bytes) -> str | None:
    return format_time(_instant(data, False)) if data else None


def _decode_micro_time(data: bytes) -> str | None:
    return format_micro_time(_instant(data, True)) if data else None


def _encode_time(value: Any) -> bytes:
    if value is None:
        return b""
    elapsed = parse_time(value) - _EPOCH
    seconds = elapsed.days * 86400 + elapsed.seconds
    return wire.number(1, seconds) + wire.number(2, 0)


def _encode_micro_time(value: Any) -> bytes:
    if value is None:
        return b""
    elapsed = parse_time(value) - _EPOCH
    seconds = elapsed.days * 86400 + elapsed.seconds
    return wire.number(1, seconds) + wire.number(2, elapsed.microseconds * 1000)


def _decode_duration(data: bytes) -> str:
    return format_duration_nanoseconds(_ints(data).get(1, 0))


def _encode_duration(value: Any) -> bytes:
    return wire.number(1, parse_duration_nanoseconds(value or "0s"))


def _last_bytes(data: bytes, number: int) -> bytes | None:
    found = None
    for each, _, value in wire.fields(data):
        if each == number and isinstance(value, bytes):
            found = value
    return found


def _decode_quantity(data: bytes) -> str:
    # An empty text is Go's zero Quantity.
    return (_last_bytes(data, 1) or b"0").decode("utf-8", "replace")


def _encode_quantity(value: Any) -> bytes:
    return wire.delimited(1, str(value or "0").encode())


def _decode_int_or_string(data: bytes) -> int | str:
    found = _ints(data)
    if found.get(1, 0) == 1:
        return (_last_bytes(data, 3) or b"").decode("utf-8", "replace")
    return wire.signed32(found.get(2, 0))


def _encode_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return wire.number(1, 1) + wire.number(2, 0) + wire.delimited(3, value.encode())
    return wire.number(1, 0) + wire.number(2, value or 0) + wire.delimited(3, b"")


def _decode_json(data: bytes) -> Any:
    raw = _last_bytes(data, 1)
    if not raw:
        return None
    if raw[:4] == b"k8s\x00":
        return _decode_embedded(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ProtobufError(f"proto: embedded JSON: {error}") from None


def _decode_embedded(raw: bytes) -> Any:
    """A RawExtension that holds a whole object in protobuf."""
    from pilothouse.apimachinery.schema import GroupVersionKind, parse_api_version
    from pilothouse.apis.schemas import for_gvk
    from pilothouse.apiserver.codec.protobuf import decode_object, open_envelope

    envelope = open_envelope(raw)
    try:
        group, version = parse_api_version(envelope.api_version)
    except ValueError as error:
        raise ProtobufError(str(error)) from None
    schema = for_gvk(GroupVersionKind(group, version, envelope.kind))
    if schema is None:
        raise ProtobufError(f'no kind "{envelope.kind}" is registered')
    kind = {"kind": envelope.kind, "apiVersion": envelope.api_version}
    return kind | decode_object(envelope.raw, schema)


def _encode_json(value: Any) -> bytes:
    return wire.delimited(1, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _encode_raw(value: Any) -> bytes:
    return b"" if value is None else _encode_json(value)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "time": _decode_time,
    "microtime": _decode_micro_time,
    "duration": _decode_duration,
    "quantity": _decode_quantity,
    "intstr": _decode_int_or_string,
    "raw": _decode_json,
    "json": _decode_json,
    "fields": _decode_json,
}
_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "time": _encode_time,
    "microtime": _encode_micro_time,
    "duration": _encode_duration,
    "quantity": _encode_quantity,
    "intstr": _encode_int_or_string,
    "raw": _encode_raw,
    "json": _encode_json,
    "fields": _encode_raw,
}
