"""Just enough DER to read a certificate's subject, names and dates without a crypto library.

The API server maps client certificates to users and the PKI checks expiry at every start; both
happen before (and mostly without) the 45 ms that importing ``cryptography`` takes. Signatures
are not checked here: TLS does that.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

COMMON_NAME = "2.5.4.3"
ORGANIZATION = "2.5.4.10"
_SUBJECT_ALT_NAME = "2.5.29.17"
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.S)


@dataclass(frozen=True, slots=True)
class CertificateFields:
    """What a certificate says; nothing about whether it is to be believed."""

    subject: tuple[tuple[str, str], ...]
    """(attribute type as dotted text, value), in order."""
    issuer_der: bytes
    subject_der: bytes
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    def values(self, attribute: str) -> tuple[str, ...]:
        return tuple(value for kind, value in self.subject if kind == attribute)

    @property
    def common_name(self) -> str:
        """The last one, as Go's crypto/x509 has it."""
        names = self.values(COMMON_NAME)
        return names[-1] if names else ""


def pem_blocks(data: bytes, label: str = "CERTIFICATE") -> list[bytes]:
    """The DER of every block with that label."""
    return [
        base64.b64decode(b"".join(body.split()))
        for kind, body in _PEM.findall(data)
        if kind.decode() == label
    ]


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, start of contents, end) of the element at ``at``."""
    try:
        tag, length = data[at], data[at + 1]
        start = at + 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[start : start + size], "big")
            start += size
    except IndexError as error:
        raise ValueError("truncated DER") from error
    if start + length > len(data):
        raise ValueError("truncated DER")
    return tag, start, start + length


def _children(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(tag, element start, contents start, end) of each element in a constructed one."""
    while start < end:
        tag, inside, after = _element(data, start)
        yield tag, start, inside, after
        start = after


def _oid(raw: bytes) -> str:
    parts = [str(min(raw[0] // 40, 2)), str(raw[0] - 40 * min(raw[0] // 40, 2))]
    value = 0
    for byte in raw[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            parts.append(str(value))
            value = 0
    return ".".join(parts)


def _text(tag: int, raw: bytes) -> str:
    if tag == 0x1E:
        return raw.decode("utf-16-be", "replace")
    return raw.decode("latin-1" if tag == 0x14 else "utf-8", "replace")


def _time(tag: int, raw: bytes) -> datetime:
    text = raw.decode("ascii")
    if tag == 0x17:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _name(data: bytes, start: int, end: int) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for _, _, set_start, set_end in _children(data, start, end):
        for _, _, pair_start, pair_end in _children(data, set_start, set_end):
            (_, _, oid_start, oid_end), (tag, _, text_start, text_end) = _children(
                data, pair_start, pair_end
            )
            found.append((_oid(data[oid_start:oid_end]), _text(tag, data[text_start:text_end])))
    return tuple(found)


def _extension_value(data: bytes, start: int, end: int, wanted: str) -> tuple[int, int] | None:
    for _, _, extension_start, extension_end in _children(data, start, end):
        parts = list(_children(data, extension_start, extension_end))
        if _oid(data[parts[0][2] : parts[0][3]]) == wanted:
            return parts[-1][2], parts[-1][3]
    return None


def _alternative_names(data: bytes, start: int, end: int) -> dict[int, list[str]]:
    _, inside, after = _element(data, start)
    names: dict[int, list[str]] = {}
    for tag, _, name_start, name_end in _children(data, inside, after):
        raw = data[name_start:name_end]
        if tag == 0x87:
            names.setdefault(tag, []).append(str(ipaddress.ip_address(raw)))
        elif tag in (0x81, 0x82, 0x86):
            names.setdefault(tag, []).append(raw.decode("ascii", "replace"))
    return names


def read_certificate(der: bytes) -> CertificateFields:
    """:raises ValueError: not a certificate."""
    try:
        return _read_certificate(der)
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a certificate: {error}") from error


def _read_certificate(der: bytes) -> CertificateFields:
    _, start, _ = _element(der, 0)
    _, start, end = _element(der, start)
    fields = list(_children(der, start, end))
    if fields[0][0] == 0xA0:
        fields = fields[1:]
    _, _, issuer, validity, subject = fields[:5]
    dates = [_time(tag, der[a:b]) for tag, _, a, b in _children(der, validity[2], validity[3])]
    names: dict[int, list[str]] = {}
    for tag, _, inside, _ in fields[6:]:
        if tag == 0xA3:
            _, list_start, list_end = _element(der, inside)
            value = _extension_value(der, list_start, list_end, _SUBJECT_ALT_NAME)
            if value:
                names = _alternative_names(der, *value)
    return CertificateFields(
        subject=_name(der, subject[2], subject[3]),
        issuer_der=der[issuer[1] : issuer[3]],
        subject_der=der[subject[1] : subject[3]],
        not_before=dates[0],
        not_after=dates[1],
        dns_names=tuple(names.get(0x82, ())),
        ip_addresses=tuple(names.get(0x87, ())),
        emails=tuple(names.get(0x81, ())),
        uris=tuple(names.get(0x86, ())),
    )


def read_request_subject(der: bytes) -> tuple[tuple[str, str], ...]:
    """The subject of a PKCS#10 certificate request. :raises ValueError: it is none."""
    try:
        _, start, _ = _element(der, 0)
        _, start, end = _element(der, start)
        _, _, subject_start, subject_end = list(_children(der, start, end))[1]
        return _name(der, subject_start, subject_end)
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a certificate request: {error}") from error
