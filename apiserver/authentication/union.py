"""The authenticator of a request: front proxy, certificate, bearer token, anonymous; in order.

Wrong credentials are 401 and never become anonymous. Whoever is known gets the group
system:authenticated.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, new_unauthorized
from pilothouse.apiserver.authentication.jws import b64decode
from pilothouse.apiserver.authentication.tokens import InvalidToken, TokenAuthenticator
from pilothouse.apiserver.authentication.users import ANONYMOUS, with_authenticated_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.apiserver.authentication.request_header import RequestHeaderAuthenticator
    from pilothouse.apiserver.authentication.x509 import X509Authenticator
    from pilothouse.apiserver.request.context import UserInfo

log = logging.getLogger(__name__)
_PROTOCOL_PREFIX = "base64url.bearer.authorization.k8s.io."


class RequestAuthenticator:
    """Each part may be missing. ``tokens`` also serves TokenReview."""

    def __init__(
        self,
        *,
        x509: X509Authenticator | None = None,
        tokens: TokenAuthenticator | None = None,
        request_header: RequestHeaderAuthenticator | None = None,
        anonymous: bool = True,
    ) -> None:
        self.x509 = x509
        self.tokens = tokens
        self._request_header = request_header
        self._anonymous = anonymous

    async def authenticate(
        self, headers: Mapping[str, str], peer_der: bytes | None
    ) -> UserInfo | None:
        """A certificate that is no good does not stand in the way of a token that is.

        :raises StatusError: 401.
        """
        refused: StatusError | None = None
        if peer_der is not None:
            if self._request_header is not None:
                user = self._request_header.user_of(headers, peer_der)
                if user is not None:
                    return with_authenticated_group(user)
            if self.x509 is not None:
                try:
                    user = self.x509.user_of(peer_der)
                except StatusError as error:
                    refused = error
                    user = None
                if user is not None:
                    return user
        token = bearer_token(headers)
        if token:
            return await self._token_user(token)
        if refused is not None:
            raise refused
        if self._anonymous:
            return ANONYMOUS
        raise new_unauthorized()

    async def _token_user(self, token: str) -> UserInfo:
        if self.tokens is not None:
            try:
                found = await self.tokens.authenticate_token(token)
            except InvalidToken as error:
                log.warning("Unable to authenticate the request: %s", error)
                raise new_unauthorized() from error
            if found is not None:
                return with_authenticated_group(found.user)
        raise new_unauthorized()


def bearer_token(headers: Mapping[str, str]) -> str:
    """From Authorization or, for browsers' WebSockets, from a sub-protocol; else empty."""
    authorization = headers.get("authorization")
    if authorization:
        scheme, _, token = authorization.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    protocols = headers.get("sec-websocket-protocol")
    if protocols and _PROTOCOL_PREFIX in protocols:
        for protocol in protocols.split(","):
            if protocol.strip().startswith(_PROTOCOL_PREFIX):
                return _decode(protocol.strip()[len(_PROTOCOL_PREFIX) :])
    return ""


def _decode(text: str) -> str:
    try:
        return b64decode(text).decode()
    except ValueError as error:
        raise new_unauthorized() from error
