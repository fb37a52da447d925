"""Hashes that end up in object names (pkg/util/hash and utilrand.SafeEncodeString).

Upstream hashes a spew dump of the Go struct; its bytes are an accident of Go's types, and
nothing outside the controller that made a hash compares it. Here the object's canonical JSON
takes the dump's place: equal objects have equal hashes, whatever the order of their keys.
"""

from __future__ import annotations

import json
from typing import Any

from pilothouse.apimachinery.names import RANDOM_ALPHABET

_FNV32_OFFSET = 0x811C9DC5
_FNV32_PRIME = 0x01000193


def fnv32a(data: bytes, state: int = _FNV32_OFFSET) -> int:
    """FNV-1a, 32 bits (hash/fnv.New32a)."""
    for byte in data:
        state = ((state ^ byte) * _FNV32_PRIME) & 0xFFFFFFFF
    return state


def safe_encode_string(text: str) -> str:
    """Each character replaced by one of the 27 that generated names use."""
    return "".join(RANDOM_ALPHABET[ord(c) % 27] for c in text)


def hash_object(value: Any, collision_count: int | None = None) -> str:
    """A short name-safe hash of a JSON value (``pod-template-hash``, revision names).

    ``collision_count`` is the owner's ``status.collisionCount``, mixed in as upstream does.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    state = fnv32a(text.encode("utf-8", "surrogatepass"))
    if collision_count is not None:
        state = fnv32a(collision_count.to_bytes(8, "little", signed=True), state)
    return safe_encode_string(str(state))
