"""What bearer-token authenticators have in common, and their union.

Each says None when a token is not its kind; :class:`InvalidToken` when it is and is wrong. The
text is shown by TokenReview only; requests get a plain 401.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apiserver.request.context import UserInfo


class InvalidToken(Exception):
    """A token of the authenticator's kind that must not be accepted."""


class TokenInfo(NamedTuple):
    user: UserInfo
    audiences: tuple[str, ...] = ()
    """Those of the requested audiences that the token is for; empty: the kind has none."""


class TokenAuthenticator(Protocol):
    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        """``audiences`` empty means the API server itself. :raises InvalidToken: wrong token."""
        ...


class UnionTokenAuthenticator:
    """The first that knows the token decides; errors of the others are joined."""

    def __init__(self, authenticators: Sequence[TokenAuthenticator]) -> None:
        self.authenticators = tuple(authenticators)

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        errors: list[str] = []
        for authenticator in self.authenticators:
            try:
                found = await authenticator.authenticate_token(token, audiences)
            except InvalidToken as error:
                errors.append(str(error))
                continue
            if found is not None:
                return found
        if errors:
            raise InvalidToken(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
        return None
