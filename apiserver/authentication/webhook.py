"""``--authentication-token-webhook-config-file``: a remote service looks at tokens.

It is posted a TokenReview and answers with the user; behind a cache
(``--authentication-token-webhook-cache-ttl``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pilothouse.apiserver.authentication.review_client import ReviewFailed
from pilothouse.apiserver.authentication.token_cache import TransientError
from pilothouse.apiserver.authentication.tokens import InvalidToken, TokenInfo
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

log = logging.getLogger(__name__)
VERSIONS = ("v1", "v1beta1")


class Reviewer(Protocol):
    """``review_client.ReviewClient``."""

    async def post(self, review: Obj) -> Obj: ...

    async def close(self) -> None: ...


class WebhookTokens:
    def __init__(self, reviewer: Reviewer, version: str, api_audiences: Sequence[str]) -> None:
        """:raises ValueError: a version that is none."""
        if version not in VERSIONS:
            raise ValueError(
                f'unsupported authentication webhook version "{version}", supported versions are '
                '"v1", "v1beta1"'
            )
        self._reviewer = reviewer
        self._version = version
        self._api_audiences = tuple(api_audiences)

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        wanted = tuple(audiences) or self._api_audiences
        spec: Obj = {"token": token}
        if wanted:
            spec["audiences"] = list(wanted)
        review = {
            "kind": "TokenReview",
            "apiVersion": f"authentication.k8s.io/{self._version}",
            "metadata": {},
            "spec": spec,
            "status": {"user": {}},
        }
        try:
            answer = await self._reviewer.post(review)
        except ReviewFailed as error:
            log.error("Failed to make webhook authenticator request: %s", error)
            raise TransientError(str(error)) from error
        return self._verdict(answer.get("status") or {}, wanted)

    def _verdict(self, status: Obj, wanted: tuple[str, ...]) -> TokenInfo | None:
        matching: tuple[str, ...] = ()
        if wanted:
            given = status.get("audiences") or self._api_audiences
            matching = tuple(audience for audience in wanted if audience in given)
            if not matching:
                return None
        if not status.get("authenticated"):
            if error := status.get("error"):
                raise InvalidToken(error)
            return None
        user = status.get("user") or {}
        extra = {key: tuple(values or ()) for key, values in (user.get("extra") or {}).items()}
        return TokenInfo(
            UserInfo(
                user.get("username") or "",
                tuple(user.get("groups") or ()),
                user.get("uid") or "",
                tuple(sorted(extra.items())),
            ),
            matching,
        )
