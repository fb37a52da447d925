"""JSON web keys of issuers, and signatures made with them (RFC 7517, 7518): RS, PS and ES."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pilothouse.apiserver.authentication.jws import b64decode

ALGORITHMS = (
    "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
)  # fmt: skip
_CURVES = {"P-256": ("ES256", 32), "P-384": ("ES384", 48), "P-521": ("ES512", 66)}


class PublicKey(NamedTuple):
    """``curve`` is empty for RSA."""

    key_id: str
    curve: str
    key: Any


def read_keys(document: Any) -> list[PublicKey]:
    """Of a JWK set; keys that are of no use here are left out.

    :raises ValueError: it is none.
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("oidc: failed to decode keys: not a JWK set")
    found = []
    for jwk in document["keys"]:
        if not isinstance(jwk, dict) or jwk.get("use") not in (None, "", "sig"):
            continue
        try:
            key = _read(jwk)
        except (ValueError, KeyError, TypeError):
            continue
        if key is not None:
            found.append(key)
    return found


def _read(jwk: dict[str, Any]) -> PublicKey | None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key_id = str(jwk.get("kid") or "")
    if jwk["kty"] == "RSA":
        n, e = (int.from_bytes(b64decode(jwk[part]), "big") for part in "ne")
        return PublicKey(key_id, "", rsa.RSAPublicNumbers(e, n).public_key())
    if jwk["kty"] == "EC" and jwk["crv"] in _CURVES:
        curves: dict[str, Any] = {
            "P-256": ec.SECP256R1,
            "P-384": ec.SECP384R1,
            "P-521": ec.SECP521R1,
        }
        x, y = (int.from_bytes(b64decode(jwk[part]), "big") for part in "xy")
        numbers = ec.EllipticCurvePublicNumbers(x, y, curves[jwk["crv"]]())
        return PublicKey(key_id, jwk["crv"], numbers.public_key())
    return None


def verifies(
    keys: Iterable[PublicKey], key_id: str, algorithm: str, data: bytes, signature: bytes
) -> bool:
    """Whether one of the keys (those with that id, when the token says one) made it."""
    return any(
        _verifies(key, algorithm, data, signature)
        for key in keys
        if not key_id or key.key_id == key_id
    )


def _verifies(key: PublicKey, algorithm: str, data: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    digest: Any = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}[algorithm[2:]]
    try:
        if key.curve:
            expected, size = _CURVES[key.curve]
            if algorithm != expected or len(signature) != 2 * size:
                return False
            r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
            key.key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest()))
        elif algorithm.startswith("PS"):
            scheme = padding.PSS(padding.MGF1(digest()), padding.PSS.AUTO)
            key.key.verify(signature, data, scheme, digest())
        elif algorithm.startswith("RS"):
            key.key.verify(signature, data, padding.PKCS1v15(), digest())
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True
