"""NaCl's secretbox: XSalsa20 and Poly1305.

OpenSSL has no Salsa20, so the stream is made here in plain Python, a few hundred kilobytes a
second: fit for Secrets, not for much more. Prefer aesgcm or aescbc where there is a choice.
"""

from __future__ import annotations

import struct

NONCE_SIZE = 24
OVERHEAD = 16
_MASK = 0xFFFFFFFF
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_WORDS = struct.Struct("<16I")
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip


def seal(key: bytes, nonce: bytes, data: bytes) -> bytes:
    """The authenticator, then the encrypted data."""
    stream = _stream(key, nonce, 32 + len(data))
    sealed = _xor(data, stream[32:])
    return _authenticator(stream[:32], sealed) + sealed


def unseal(key: bytes, nonce: bytes, box: bytes) -> bytes | None:
    """The data; None when the box was not made with this key and nonce."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    given, sealed = box[:OVERHEAD], box[OVERHEAD:]
    stream = _stream(key, nonce, 32 + len(sealed))
    try:
        Poly1305.verify_tag(stream[:32], sealed, given)
    except InvalidSignature:
        return None
    return _xor(sealed, stream[32:])


def _authenticator(key: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    return Poly1305.generate_tag(key, data)


def _xor(data: bytes, stream: bytes) -> bytes:
    size = len(data)
    number = int.from_bytes(data, "little") ^ int.from_bytes(stream[:size], "little")
    return number.to_bytes(size, "little")


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    """XSalsa20's key stream: a key of its own from 16 bytes of the nonce, then Salsa20."""
    words = _rounds(_block(key, nonce[:16]))
    own = struct.pack("<8I", *(words[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))
    blocks = []
    for counter in range((size + 63) // 64):
        block = _block(own, nonce[16:] + struct.pack("<Q", counter))
        mixed = _rounds(block)
        blocks.append(_WORDS.pack(*((a + b) & _MASK for a, b in zip(mixed, block, strict=True))))
    return b"".join(blocks)


def _block(key: bytes, inputs: bytes) -> tuple[int, ...]:
    k = struct.unpack("<8I", key)
    n = struct.unpack("<4I", inputs)
    return (
        _SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3],
    )  # fmt: skip


def _rounds(block: tuple[int, ...]) -> list[int]:
    """Salsa20's twenty rounds, without the addition at the end."""
    x = list(block)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            s = x[a] + x[d] & _MASK
            x[b] ^= (s << 7 | s >> 25) & _MASK
            s = x[b] + x[a] & _MASK
            x[c] ^= (s << 9 | s >> 23) & _MASK
            s = x[c] + x[b] & _MASK
            x[d] ^= (s << 13 | s >> 19) & _MASK
            s = x[d] + x[c] & _MASK
            x[a] ^= (s << 18 | s >> 14) & _MASK
    return x
