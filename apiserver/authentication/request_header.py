"""Users that a front proxy vouches for in headers (request/headerrequest).

Believed only from a peer whose certificate the request-header CA signed and whose common name
is among ``--requestheader-allowed-names`` (all, when that is empty).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pilothouse.apiserver.request.context import UserInfo
from pilothouse.componentbase.der import pem_blocks, read_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.apimachinery.clock import Clock


class RequestHeaderAuthenticator:
    def __init__(
        self,
        clock: Clock,
        ca_pem: bytes,
        *,
        allowed_names: Sequence[str] = (),
        username_headers: Sequence[str] = ("X-Remote-User",),
        group_headers: Sequence[str] = ("X-Remote-Group",),
        uid_headers: Sequence[str] = ("X-Remote-Uid",),
        extra_prefixes: Sequence[str] = ("X-Remote-Extra-",),
    ) -> None:
        self._clock = clock
        self._ca_pem = ca_pem
        self._allowed_names = frozenset(allowed_names)
        self._username_headers = [name.lower() for name in username_headers]
        self._group_headers = [name.lower() for name in group_headers]
        self._uid_headers = [name.lower() for name in uid_headers]
        self._extra_prefixes = [name.lower() for name in extra_prefixes]
        self._trusted: dict[bytes, bool] = {}

    def user_of(self, headers: Mapping[str, str], der: bytes) -> UserInfo | None:
        """None when the peer is no front proxy or says no user."""
        name = self._first(headers, self._username_headers)
        if not name or not der or not self._is_proxy(der):
            return None
        groups: list[str] = []
        for header in self._group_headers:
            groups += _values(headers.get(header))
        extra: dict[str, tuple[str, ...]] = {}
        for header, value in headers.items():
            for prefix in self._extra_prefixes:
                if header.startswith(prefix):
                    extra[unquote(header[len(prefix) :])] = tuple(_values(value))
        uid = self._first(headers, self._uid_headers)
        return UserInfo(name, tuple(groups), uid, tuple(sorted(extra.items())))

    @staticmethod
    def _first(headers: Mapping[str, str], names: Sequence[str]) -> str:
        return next((headers[name] for name in names if headers.get(name)), "")

    def _is_proxy(self, der: bytes) -> bool:
        trusted = self._trusted.get(der)
        if trusted is None:
            if len(self._trusted) > 256:
                self._trusted.clear()
            trusted = self._trusted[der] = self._verify(der)
        if not trusted:
            return False
        fields = read_certificate(der)
        return fields.not_before <= self._clock.now() <= fields.not_after

    def _verify(self, der: bytes) -> bool:
        fields = read_certificate(der)
        if self._allowed_names and fields.common_name not in self._allowed_names:
            return False
        for ca_der in pem_blocks(self._ca_pem):
            if read_certificate(ca_der).subject_der == fields.issuer_der and _signed(der, ca_der):
                return True
        return False


def _values(header: str | None) -> list[str]:
    """Repeated ones arrive joined by line ends (``serving/http_protocol.py``); a comma is a
    part of the name."""
    return [part.strip() for part in header.split("\n") if part.strip()] if header else []


def _signed(der: bytes, ca_der: bytes) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    certificate: Any = x509.load_der_x509_certificate(der)
    try:
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(ca_der))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
