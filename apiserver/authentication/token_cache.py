"""Remembers what a slow token authenticator said (token/cache).

Concurrent questions about one token are asked once. Tokens are kept as keyed digests, so that a
dump of the memory does not give them away.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apiserver.authentication.tokens import InvalidToken, TokenAuthenticator, TokenInfo

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock

_SIZE = 4096
_Outcome = TokenInfo | InvalidToken | None


class CachedTokenAuthenticator:
    """Successes are kept for ``success_ttl`` seconds, refusals for ``failure_ttl``; 0: not.
    What the authenticator could not decide (``transient`` errors) is never kept."""

    def __init__(
        self,
        authenticator: TokenAuthenticator,
        clock: Clock,
        *,
        success_ttl: float,
        failure_ttl: float,
    ) -> None:
        self._authenticator = authenticator
        self._clock = clock
        self._success_ttl, self._failure_ttl = success_ttl, failure_ttl
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, tuple[float, _Outcome]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[_Outcome]] = {}

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        text = "\0".join((token, *audiences)).encode()
        key = hmac.digest(self._secret, text, hashlib.sha256)
        known = self._known.get(key)
        if known is not None and known[0] > self._clock.monotonic():
            return _given(known[1])
        asking = self._asking.get(key)
        if asking is None:
            loop = asyncio.get_running_loop()
            asking = loop.create_task(self._ask(key, token, audiences), name="token-review")
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        # One who gives up must not take the answer from the others.
        return _given(await asyncio.shield(asking))

    async def _ask(self, key: bytes, token: str, audiences: Sequence[str]) -> _Outcome:
        outcome: _Outcome
        try:
            outcome = await self._authenticator.authenticate_token(token, audiences)
        except InvalidToken as error:
            outcome = error
        if isinstance(outcome, TransientError):
            return outcome
        ttl = self._success_ttl if isinstance(outcome, TokenInfo) else self._failure_ttl
        if ttl > 0:
            self._known[key] = (self._clock.monotonic() + ttl, outcome)
            self._known.move_to_end(key)
            if len(self._known) > _SIZE:
                self._known.popitem(last=False)
        return outcome


class TransientError(InvalidToken):
    """Nobody could say whether the token is good."""


def _given(outcome: _Outcome) -> TokenInfo | None:
    if isinstance(outcome, InvalidToken):
        raise outcome
    return outcome
