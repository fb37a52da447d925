"""Signs certificate requests with a CA: the permissive policy of the signing controller.

Subject, names and key come from the request, usages and lifetime from the policy, all other
extensions of the request are dropped (pkg/controller/certificates/authority).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.controllermanager.certificates.request import alternative_names

if TYPE_CHECKING:
    from cryptography import x509

BACKDATE = timedelta(minutes=5)
SHORT = timedelta(hours=8)
"""Certificates that live shorter get their whole time; others lose the five minutes."""
MINIMUM = timedelta(minutes=10)
"""The least that a request's expirationSeconds can get."""

_KEY_USAGES = {
    "signing": 0,
    "digital signature": 0,
    "content commitment": 1,
    "key encipherment": 2,
    "data encipherment": 3,
    "key agreement": 4,
    "cert sign": 5,
    "crl sign": 6,
    "encipher only": 7,
    "decipher only": 8,
}
"""Bits of RFC 5280's KeyUsage."""
_EXTENDED_USAGES = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}
"""In the order in which they appear in a certificate."""


class SigningError(Exception):
    """The request can't be signed."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA's certificate and key, PEM."""

    cert: bytes
    key: bytes = field(repr=False)

    @classmethod
    def load(cls, cert_file: str, key_file: str) -> Authority:
        """:raises OSError: a file can't be read."""
        return cls(Path(cert_file).read_bytes(), Path(key_file).read_bytes())


def lifetime(maximum: timedelta, expiration_seconds: int | None) -> timedelta:
    """What a request gets that asks for ``expiration_seconds`` (None: does not say)."""
    if expiration_seconds is None:
        return maximum
    return min(maximum, max(MINIMUM, timedelta(seconds=expiration_seconds)))


def sign(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    usages: Sequence[str],
    ttl: timedelta,
    now: datetime,
) -> bytes:
    """The certificate, PEM. :raises SigningError: with upstream's text."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    issuer = x509.load_pem_x509_certificate(authority.cert)
    key: Any = load_pem_private_key(authority.key, None)
    if not request.is_signature_valid:
        raise SigningError("unable to verify certificate request signature")
    not_before, not_after = _validity(issuer.not_valid_after_utc, ttl, now)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(issuer.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension, critical in _extensions(issuer, request, usages):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, _digest(key)).public_bytes(Encoding.PEM)


def _validity(signer_end: datetime, ttl: timedelta, now: datetime) -> tuple[datetime, datetime]:
    if now >= signer_end:
        raise SigningError(
            f"refusing to sign a certificate that expired in the past: NotAfter={signer_end}"
        )
    end = now + ttl if ttl < SHORT else now + ttl - BACKDATE
    return now - BACKDATE, min(end, signer_end)


def _extensions(
    issuer: x509.Certificate, request: x509.CertificateSigningRequest, usages: Sequence[str]
) -> list[tuple[x509.ExtensionType, bool]]:
    from cryptography import x509

    bits = {_KEY_USAGES[usage] for usage in usages if usage in _KEY_USAGES}
    extended = [oid for usage, oid in _EXTENDED_USAGES.items() if usage in usages]
    unknown = [u for u in usages if u not in _KEY_USAGES and u not in _EXTENDED_USAGES]
    if unknown:
        listed = " ".join(f'"{usage}"' for usage in unknown)
        raise SigningError(f"unrecognized usage values: [{listed}]")
    found: list[tuple[x509.ExtensionType, bool]] = []
    if bits:
        usage_oid = x509.ObjectIdentifier("2.5.29.15")
        found.append((x509.UnrecognizedExtension(usage_oid, _bit_string(bits)), True))
    if extended:
        purposes = [x509.ObjectIdentifier(oid) for oid in dict.fromkeys(extended)]
        found.append((x509.ExtendedKeyUsage(purposes), False))
    found.append((x509.BasicConstraints(ca=False, path_length=None), True))
    found.append((_authority_key_identifier(issuer), False))
    names = [name for kind in alternative_names(request).values() for name in kind]
    if names:
        found.append((x509.SubjectAlternativeName(names), not list(request.subject)))
    return found


def _bit_string(bits: set[int]) -> bytes:
    """DER of a named bit list: bit 0 is the first byte's highest, trailing zeros are cut."""
    last = max(bits)
    size = last // 8 + 1
    value = sum(1 << (8 * size - 1 - bit) for bit in bits)
    return bytes((3, size + 1, 8 * size - 1 - last)) + value.to_bytes(size, "big")


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    from cryptography import x509

    try:
        subject_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        public: Any = issuer.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key.value)


def _digest(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    size = key.curve.key_size if isinstance(key, ec.EllipticCurvePrivateKey) else 256
    if size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if size <= 384 else hashes.SHA512()
