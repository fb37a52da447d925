"""The few protobuf messages of KMS v2 plugins and of values encrypted with them; pure.

k8s.io/kms/apis/v2 and apiserver's kmsv2.EncryptedObject: strings, bytes, one number and one map,
so that no generated code is needed.
"""

from __future__ import annotations

from typing import NamedTuple

from pilothouse.apimachinery.protobuf_wire import ProtobufError, delimited, fields, number


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
        """:raises ProtobufError: it is none."""
        content, key_id, source, kind = b"", "", b"", 0
        annotations: list[tuple[str, bytes]] = []
        for field, _, value in fields(data):
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
            raise ProtobufError("encrypted object is incomplete")
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
    told = _strings(data)
    return Status(told.get(1, ""), told.get(2, ""), told.get(3, ""))


def encrypt_request(plaintext: bytes, uid: str) -> bytes:
    return _bytes(1, plaintext) + _bytes(2, uid.encode())


def encrypt_response(data: bytes) -> Encrypted:
    ciphertext, key_id = b"", ""
    annotations: list[tuple[str, bytes]] = []
    for field, _, value in fields(data):
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
    for field, _, value in fields(data):
        if field == 1 and isinstance(value, bytes):
            return value
    return b""


def _strings(data: bytes) -> dict[int, str]:
    return {field: value.decode() for field, _, value in fields(data) if isinstance(value, bytes)}


def _pair(data: bytes) -> tuple[str, bytes]:
    found = {field: value for field, _, value in fields(data) if isinstance(value, bytes)}
    return found.get(1, b"").decode(), found.get(2, b"")


def _bytes(field: int, value: bytes) -> bytes:
    return delimited(field, value) if value else b""


def _number(field: int, value: int) -> bytes:
    return number(field, value) if value else b""


def _map(field: int, pairs: tuple[tuple[str, bytes], ...]) -> bytes:
    return b"".join(_bytes(field, _bytes(1, k.encode()) + _bytes(2, v)) for k, v in sorted(pairs))
