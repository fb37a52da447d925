"""``--enable-bootstrap-token-auth``: tokens with which new nodes ask for a certificate."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.bootstrap_tokens import (
    EXTRA_GROUPS,
    NAME_PREFIX,
    NAMESPACE,
    SECRET_TYPE,
    TOKEN_ID,
    TOKEN_SECRET,
    USAGE_AUTHENTICATION,
    USER_PREFIX,
    groups_of,
    has_expired,
    parse_token,
    value_of,
)
from pilothouse.apiserver.authentication.tokens import TokenInfo
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers

log = logging.getLogger(__name__)
SECRETS = GroupResource("", "secrets")


class BootstrapTokens:
    """Reads Secrets from the API server's own cache, at each request."""

    def __init__(self, listers: Listers, clock: Clock) -> None:
        self._listers = listers
        self._clock = clock

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        parts = parse_token(token)
        if parts is None:
            return None
        token_id, token_secret = parts
        secret = self._listers.get(SECRETS, NAMESPACE, f"{NAME_PREFIX}{token_id}")
        if secret is None:
            return None
        if problem := self._problem(secret, token_id, token_secret):
            log.debug("Bootstrap secret of %s matching bearer token %s", token_id, problem)
            return None
        try:
            groups = groups_of(secret)
        except ValueError as error:
            log.debug("invalid value for key %s: %s", EXTRA_GROUPS, error)
            return None
        return TokenInfo(UserInfo(f"{USER_PREFIX}{token_id}", groups))

    def _problem(self, secret: Obj, token_id: str, token_secret: str) -> str:
        if secret["metadata"].get("deletionTimestamp"):
            return "is deleted and awaiting removal"
        if secret.get("type") != SECRET_TYPE or not secret.get("data"):
            return f"has invalid type, expected {SECRET_TYPE}."
        if not hmac.compare_digest(value_of(secret, TOKEN_SECRET).encode(), token_secret.encode()):
            return f"has invalid value for key {TOKEN_SECRET}."
        if value_of(secret, TOKEN_ID) != token_id:
            return f"has invalid value for key {TOKEN_ID}."
        if has_expired(secret, self._clock.now()):
            return "has expired"
        if value_of(secret, USAGE_AUTHENTICATION) != "true":
            return f"not marked {USAGE_AUTHENTICATION}=true."
        return ""
