"""Authenticators: who is it? (apiserver pkg/authentication/authenticator)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.apiserver.request.context import UserInfo


class PeerCertificate(Protocol):
    """The client certificate that TLS verified; DER bytes."""

    der: bytes


class Authenticator(Protocol):
    async def authenticate(
        self, headers: Mapping[str, str], peer_der: bytes | None
    ) -> UserInfo | None:
        """The user; None when these credentials are not this authenticator's kind.

        :raises StatusError: 401, credentials of this kind that are wrong or expired.
        """
        ...
