"""The few protobuf messages of KMS v2 plugins and of values encrypted with them; pure.

k8s.io/kms/apis/v2 and apiserver's kmsv2.EncryptedObject: strings, bytes, one number and one map,
so that no generated code is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Malformed(ValueError):
    """Not a protobuf message of this kind."""


class EncryptedObject(NamedTuple):
    """What follows the prefix of a stored value."""

    data: bytes
    key_id: str
    source: bytes
    """The encrypted seed (or key) from which the data's key is made."""
    annotations: tuple[tuple[str, bytes], ...] = ()
    source_type: int = 0
    """0: the source is the key; 1: it is a seed for HKDF."""

    def encode(self) -> bytes:
        return b"".join(
            (
                _bytes(1, self.data),
                _bytes(2, self.key_id.encode()),
                _bytes(3, self.source),
                _map(4, self.annotations),
                _number(5, self.source_type),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> EncryptedObject:
        """:raises Malformed: it is none."""
        content, key_id, source, kind = b"", "", b"", 0
        annotations: list[tuple[str, bytes]] = []
        for field, value in _fields(data):
            if field == 1 and isinstance(value, bytes):
                content = value
            elif field == 2 and isinstance(value, bytes):
                key_id = value.decode()
            elif field == 3 and isinstance(value, bytes):
                source = value
            elif field == 4 and isinstance(value, bytes):
                annotations.append(_pair(value))
            elif field == 5 and isinstance(value, int):
                kind = value
        if not content or not key_id or not source or kind not in (0, 1):
            raise Malformed("encrypted object is incomplete")
        return cls(content, key_id, source, tuple(annotations), kind)


class Status(NamedTuple):
    version: str
    healthz: str
    key_id: str


class Encrypted(NamedTuple):
    ciphertext: bytes
    key_id: str
    annotations: tuple[tuple[str, bytes], ...]


def status_response(data: bytes) -> Status:
    fields = _strings(data)
    return Status(fields.get(1, ""), fields.get(2, ""), fields.get(3, ""))


def encrypt_request(plaintext: bytes, uid: str) -> bytes:
    return _bytes(1, plaintext) + _bytes(2, uid.encode())


def encrypt_response(data: bytes) -> Encrypted:
    ciphertext, key_id = b"", ""
    annotations: list[tuple[str, bytes]] = []
    for field, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            ciphertext = value
        elif field == 2:
            key_id = value.decode()
        elif field == 3:
            annotations.append(_pair(value))
    return Encrypted(ciphertext, key_id, tuple(annotations))


def decrypt_request(obj: EncryptedObject, uid: str) -> bytes:
    return b"".join(
        (
            _bytes(1, obj.source),
            _bytes(2, uid.encode()),
            _bytes(3, obj.key_id.encode()),
            _map(4, obj.annotations),
        )
    )


def decrypt_response(data: bytes) -> bytes:
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            return value
    return b""


def _strings(data: bytes) -> dict[int, str]:
    return {field: value.decode() for field, value in _fields(data) if isinstance(value, bytes)}


def _pair(data: bytes) -> tuple[str, bytes]:
    fields = {field: value for field, value in _fields(data) if isinstance(value, bytes)}
    return fields.get(1, b"").decode(), fields.get(2, b"")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value if value else b""


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _map(field: int, pairs: tuple[tuple[str, bytes], ...]) -> bytes:
    return b"".join(_bytes(field, _bytes(1, k.encode()) + _bytes(2, v)) for k, v in sorted(pairs))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise Malformed("proto: unexpected EOF")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _read_varint(data, at)
            yield tag >> 3, number
        elif kind == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise Malformed("proto: unexpected EOF")
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            raise Malformed(f"proto: illegal wireType {kind}")
