"""Client certificates: common name is the user, organizations are the groups (request/x509).

TLS has verified the chain against ``--client-ca-file`` when it accepted the connection (what
did not verify comes as an empty certificate); here the subject is read, once per certificate, and
the dates at each request.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.errors import new_unauthorized
from pilothouse.apiserver.authentication.users import CREDENTIAL_ID, with_authenticated_group
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.componentbase.der import ORGANIZATION, read_certificate
from pilothouse.componentbase.histograms import Series

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

_UID_ATTRIBUTE = "1.3.6.1.4.1.57683.2"
_CACHE_SIZE = 1024
_LIFETIMES = (
    0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000,
    31104000,
)  # fmt: skip


class _Known(NamedTuple):
    user: UserInfo | None
    not_before: float
    not_after: float


class X509Authenticator:
    """``issuers`` restricts to certificates that these subjects signed: the client CAs, when
    TLS also trusts the front proxy's CA. Empty means any that TLS verified."""

    def __init__(self, clock: Clock, issuers: frozenset[bytes] = frozenset()) -> None:
        self._clock = clock
        self._issuers = issuers
        self.lifetimes = Series(_LIFETIMES)
        """How long the certificates that were shown were still good for, in seconds."""
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def user_of(self, der: bytes) -> UserInfo | None:
        """None for certificates that name no user.

        :raises StatusError: 401, out of date or not of our authorities.
        """
        known = self._known.get(der)
        if known is None:
            known = self._known[der] = self._read(der)
            if len(self._known) > _CACHE_SIZE:
                self._known.popitem(last=False)
        now = self._clock.time()
        if not known.not_before <= now <= known.not_after:
            raise new_unauthorized()
        self.lifetimes.observe(known.not_after - now)
        return known.user

    def _read(self, der: bytes) -> _Known:
        try:
            fields = read_certificate(der)
        except ValueError as error:
            raise new_unauthorized() from error
        user: UserInfo | None = None
        if fields.common_name and (not self._issuers or fields.issuer_der in self._issuers):
            uids = fields.values(_UID_ATTRIBUTE)
            fingerprint = hashlib.sha256(der).hexdigest()
            extra = ((CREDENTIAL_ID, (f"X509SHA256={fingerprint}",)),)
            groups = fields.values(ORGANIZATION)
            user = with_authenticated_group(
                UserInfo(fields.common_name, groups, uids[0] if uids else "", extra)
            )
        return _Known(user, fields.not_before.timestamp(), fields.not_after.timestamp())
