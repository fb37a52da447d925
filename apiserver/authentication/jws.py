"""Compact JSON web signatures with ES256/384/512 and RS256 keys, and their published form.

``cryptography`` is imported when the first token is signed or verified, not before; a key may
also be made then (a cluster inside one process has no key file).
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CURVES = {
    "secp256r1": ("ES256", "P-256", 32),
    "secp384r1": ("ES384", "P-384", 48),
    "secp521r1": ("ES512", "P-521", 66),
}


class InvalidSignature(Exception):
    """No key made this signature, or the text is no token at all."""


def b64encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Key:
    """A public key, maybe with its private half."""

    def __init__(self, public: Any, private: Any = None) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.public, self.private = public, private
        self.size = 0
        if isinstance(public, ec.EllipticCurvePublicKey):
            self.algorithm, self.curve, self.size = _CURVES[public.curve.name]
        elif isinstance(public, rsa.RSAPublicKey):
            self.algorithm = "RS256"
        else:
            raise ValueError(f"unknown public key type {type(public).__name__}")
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = b64encode(hashlib.sha256(der).digest())

    def _hash(self) -> Any:
        from cryptography.hazmat.primitives import hashes

        made: dict[str, Any] = {
            "256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512,
        }  # fmt: skip
        return made[self.algorithm[2:]]()

    def sign(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric import ec, padding
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        if not self.size:
            return bytes(self.private.sign(data, padding.PKCS1v15(), self._hash()))
        r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(self._hash())))
        return r.to_bytes(self.size, "big") + s.to_bytes(self.size, "big")

    def verifies(self, data: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature as BadSignature
        from cryptography.hazmat.primitives.asymmetric import ec, padding
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        try:
            if self.size:
                if len(signature) != 2 * self.size:
                    return False
                r = int.from_bytes(signature[: self.size], "big")
                s = int.from_bytes(signature[self.size :], "big")
                self.public.verify(encode_dss_signature(r, s), data, ec.ECDSA(self._hash()))
            else:
                self.public.verify(signature, data, padding.PKCS1v15(), self._hash())
        except BadSignature:
            return False
        return True

    def jwk(self) -> dict[str, str]:
        """The public half as RFC 7517 has it."""
        numbers = self.public.public_numbers()
        published = {"use": "sig", "kid": self.key_id, "alg": self.algorithm}
        if self.size:
            coordinates = {
                axis: b64encode(getattr(numbers, axis).to_bytes(self.size, "big")) for axis in "xy"
            }
            return {"kty": "EC", "crv": self.curve, **published, **coordinates}
        n, e = (
            b64encode(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (numbers.n, numbers.e)
        )
        return {"kty": "RSA", **published, "n": n, "e": e}


def load_keys(data: bytes) -> list[Key]:
    """All public and private keys of a PEM file. :raises ValueError: there is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_pem_public_key,
    )

    keys: list[Key] = []
    for block in _pem_texts(data):
        if b"PRIVATE KEY" in block:
            private: Any = load_pem_private_key(block, None)
            keys.append(Key(private.public_key(), private))
        elif b"PUBLIC KEY" in block:
            keys.append(Key(load_pem_public_key(block)))
        elif b"CERTIFICATE" in block:
            keys.append(Key(x509.load_pem_x509_certificate(block).public_key()))
    if not keys:
        raise ValueError("data does not contain any valid RSA or ECDSA public keys")
    return keys


def _pem_texts(data: bytes) -> Iterable[bytes]:
    end = b"-----END "
    for part in data.split(b"-----BEGIN ")[1:]:
        if end in part:
            body, _, tail = part.partition(end)
            yield b"-----BEGIN " + body + end + tail.split(b"\n")[0].strip() + b"\n"


class KeySet:
    """The keys of one API server: one that signs, all that verify. Loaded on first use."""

    def __init__(self, load: Callable[[], tuple[Key | None, Sequence[Key]]]) -> None:
        self._load: Callable[[], tuple[Key | None, Sequence[Key]]] | None = load
        self._signing: Key | None = None
        self._keys: tuple[Key, ...] = ()

    @classmethod
    def from_files(cls, signing_file: str, key_files: Sequence[str]) -> KeySet:
        """Without any file a key is made on first use; its tokens die with the process."""

        def load() -> tuple[Key | None, Sequence[Key]]:
            signing = load_keys(Path(signing_file).read_bytes())[0] if signing_file else None
            keys = [key for file in key_files for key in load_keys(Path(file).read_bytes())]
            if signing is None and not keys:
                signing = _new_key()
            return signing, keys

        return cls(load)

    def _ready(self) -> None:
        if self._load is None:
            return
        self._signing, keys = self._load()
        self._load = None
        unique = {key.key_id: key for key in keys}
        if self._signing is not None:
            unique.setdefault(self._signing.key_id, self._signing)
        self._keys = tuple(unique.values())

    @property
    def keys(self) -> tuple[Key, ...]:
        self._ready()
        return self._keys

    def sign(self, claims: dict[str, Any]) -> str:
        """:raises RuntimeError: this server has no key to sign with."""
        self._ready()
        key = self._signing
        if key is None or key.private is None:
            raise RuntimeError("no service account signing key")
        header = {"alg": key.algorithm, "kid": key.key_id}
        parts = (json.dumps(part, separators=(",", ":")).encode() for part in (header, claims))
        signed = ".".join(b64encode(part) for part in parts)
        return f"{signed}.{b64encode(key.sign(signed.encode()))}"

    def verify(self, token: str) -> dict[str, Any]:
        """The claims. :raises InvalidSignature: wrong in any way."""
        head, _, signature_text = token.rpartition(".")
        try:
            header = json.loads(b64decode(head.partition(".")[0]))
            claims = json.loads(b64decode(head.partition(".")[2]))
            signature = b64decode(signature_text)
            key_id, algorithm = header.get("kid"), header.get("alg")
        except (ValueError, AttributeError, RecursionError) as error:
            raise InvalidSignature("malformed token") from error
        candidates = [k for k in self.keys if not key_id or k.key_id == key_id]
        if not candidates:
            raise InvalidSignature("invalid signature, no keys found")
        for key in candidates:
            if key.algorithm == algorithm and key.verifies(head.encode(), signature):
                return dict(claims)
        raise InvalidSignature("error in cryptographic primitive")


def _new_key() -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    return Key(private.public_key(), private)


def unverified_issuer(token: str) -> str | None:
    """The ``iss`` claim, not to be believed; None when this is no compact token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(b64decode(parts[1]))
    except (ValueError, RecursionError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None
