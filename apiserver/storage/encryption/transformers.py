"""Ciphers of stored values in upstream's formats (storage/value/encrypt); pure.

``key`` is the value's place in the store: AES-GCM authenticates it, so that an encrypted value
can't be moved to another object.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

ENCRYPTED = b"k8s:enc:"
_BLOCK = 16
_GCM_NONCE = 12
_SHORT = "the stored data was shorter than the required size"


class TransformError(Exception):
    """A value can't be decrypted; the text is upstream's."""


class Locked(TransformError):
    """A plugin must be asked first (``kms.py``)."""

    async def unlock(self) -> None:
        """:raises TransformError: it can't or won't."""
        raise TransformError("no plugin")


class Transformer(Protocol):
    @property
    def prefix(self) -> bytes:
        """What its values begin with; empty for identity."""
        ...

    @property
    def tag(self) -> bytes:
        """Tells this transformer with its present key from all others."""
        ...

    def tag_of(self, data: bytes) -> bytes:
        """What the tag was when ``data`` was encrypted; it is known to decrypt."""
        ...

    def encrypt(self, key: str, data: bytes) -> bytes: ...

    def decrypt(self, key: str, data: bytes) -> bytes:
        """:raises TransformError: another key, or damaged."""
        ...


class Identity:
    """Plain values."""

    prefix = tag = b""

    def tag_of(self, data: bytes) -> bytes:
        return b""

    def encrypt(self, key: str, data: bytes) -> bytes:
        return data

    def decrypt(self, key: str, data: bytes) -> bytes:
        if data.startswith(ENCRYPTED):
            raise TransformError("identity transformer tried to read encrypted data")
        return data


class _Keyed:
    """With one key for good."""

    def __init__(self, prefix: bytes, secret: bytes) -> None:
        self.prefix, self.tag = prefix, _tag(prefix, secret)

    def tag_of(self, data: bytes) -> bytes:
        return self.tag


class AESCBC(_Keyed):
    """A random initialization vector, then the padded value."""

    def __init__(self, prefix: bytes, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import algorithms

        super().__init__(prefix, secret)
        self._algorithm = algorithms.AES(secret)

    def encrypt(self, key: str, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes

        padding = _BLOCK - len(data) % _BLOCK
        vector = os.urandom(_BLOCK)
        encryptor = Cipher(self._algorithm, modes.CBC(vector)).encryptor()
        return vector + encryptor.update(data + bytes([padding]) * padding) + encryptor.finalize()

    def decrypt(self, key: str, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes

        if len(data) < _BLOCK:
            raise TransformError(_SHORT)
        vector, data = data[:_BLOCK], data[_BLOCK:]
        if len(data) % _BLOCK:
            raise TransformError("the stored data is not a multiple of the block size")
        decryptor = Cipher(self._algorithm, modes.CBC(vector)).decryptor()
        plain = decryptor.update(data) + decryptor.finalize()
        padding = plain[-1] if plain else 0
        if not padding or padding > len(plain):
            raise TransformError("invalid PKCS7 data (empty or not padded)")
        if plain[-padding:] != bytes([padding]) * padding:
            raise TransformError("invalid padding on input")
        return plain[:-padding]


class AESGCM(_Keyed):
    """A random nonce, then the sealed value."""

    def __init__(self, prefix: bytes, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import aead

        super().__init__(prefix, secret)
        self._cipher: Any = aead.AESGCM(secret)

    def encrypt(self, key: str, data: bytes) -> bytes:
        nonce = os.urandom(_GCM_NONCE)
        return nonce + bytes(self._cipher.encrypt(nonce, data, key.encode()))

    def decrypt(self, key: str, data: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        if len(data) < _GCM_NONCE:
            raise TransformError(_SHORT)
        try:
            return bytes(self._cipher.decrypt(data[:_GCM_NONCE], data[_GCM_NONCE:], key.encode()))
        except InvalidTag as error:
            raise TransformError("cipher: message authentication failed") from error


class Secretbox(_Keyed):
    """A random nonce, then the value in a NaCl box."""

    def __init__(self, prefix: bytes, secret: bytes) -> None:
        super().__init__(prefix, secret)
        self._secret = secret

    def encrypt(self, key: str, data: bytes) -> bytes:
        from pilothouse.apiserver.storage.encryption import secretbox

        nonce = os.urandom(secretbox.NONCE_SIZE)
        return nonce + secretbox.seal(self._secret, nonce, data)

    def decrypt(self, key: str, data: bytes) -> bytes:
        from pilothouse.apiserver.storage.encryption import secretbox

        size = secretbox.NONCE_SIZE
        if len(data) < size + secretbox.OVERHEAD:
            raise TransformError(_SHORT)
        plain = secretbox.unseal(self._secret, data[:size], data[size:])
        if plain is None:
            raise TransformError("output array was not large enough for encryption")
        return plain


def _tag(prefix: bytes, secret: bytes) -> bytes:
    import hashlib

    return prefix + hashlib.sha256(secret).digest()[:8]


class PrefixTransformers:
    """The first writes; whichever has the prefix reads."""

    def __init__(self, transformers: Sequence[Transformer]) -> None:
        self._transformers = tuple(transformers)

    @property
    def tag(self) -> bytes:
        """Of what is written now."""
        return self._transformers[0].tag

    def encrypt(self, key: str, data: bytes) -> bytes:
        first = self._transformers[0]
        return first.prefix + first.encrypt(key, data)

    def decrypt(self, key: str, data: bytes) -> tuple[bytes, bytes]:
        """(the value, the tag of its transformer). :raises TransformError: none can."""
        errors: list[str] = []
        for each in self._transformers:
            if not data.startswith(each.prefix):
                continue
            rest = data[len(each.prefix) :]
            try:
                return each.decrypt(key, rest), each.tag_of(rest)
            except TransformError as error:
                if isinstance(error, Locked):
                    raise
                if each.prefix:  # identity only says that it is not its own
                    errors.append(str(error))
        if not errors:
            raise TransformError("no matching prefix found")
        raise TransformError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
