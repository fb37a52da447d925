"""A claim that an ID token only names the source of (OpenID Connect Core 5.6.2; oidc.go).

``_claim_names`` says which of ``_claim_sources`` has it; the source answers with another JWT, of
an issuer that its keys are discovered from. Only the groups claim is looked for, as upstream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apiserver.authentication.issuer_keys import KeysUnavailable
from pilothouse.apiserver.authentication.jws import b64decode
from pilothouse.apiserver.authentication.tokens import InvalidToken

if TYPE_CHECKING:
    from pilothouse.apiserver.authentication.issuer_keys import IssuerKeys

Claims = dict[str, Any]
Verify = Callable[[list[str], Claims, "IssuerKeys"], Awaitable[None]]
_GOOGLE = "accounts.google.com"


class ClaimResolver:
    """``keys`` are those of the ID tokens' issuer; ``verify`` raises InvalidToken for a token whose
    signature, audience or dates are no good."""

    def __init__(self, claim: str, keys: IssuerKeys, verify: Verify) -> None:
        self._claim = claim
        self._keys = keys
        self._verify = verify
        self._issuers: dict[str, IssuerKeys] = {}

    async def expand(self, claims: Claims) -> None:
        """Puts the claim among ``claims`` if it is elsewhere.

        :raises InvalidToken: it should be, and is not to be had.
        """
        source = self._source(claims)
        if source is None:
            return
        url = source.get("endpoint") or ""
        if not url:  # an aggregated claim, perhaps
            return
        claims[self._claim] = await self._fetch(str(url), str(source.get("access_token") or ""))

    def _source(self, claims: Claims) -> Claims | None:
        if self._claim in claims or "_claim_names" not in claims:
            return None
        names, sources = claims["_claim_names"], claims.get("_claim_sources")
        if not _is_map_of(names, str):
            raise _failed("oidc: error parsing distributed claim names: not a map of strings")
        if sources is None:
            raise _failed("oidc: no claim sources")
        if not _is_map_of(sources, dict):
            raise _failed("oidc: could not parse claim sources: not a map of endpoints")
        name = names.get(self._claim)
        if name is None:
            return None
        if name not in sources:
            raise _failed(
                f"id token _claim_names contained a source {name} missing in _claims_sources"
            )
        found: Claims = sources[name]
        return found

    async def _fetch(self, url: str, access_token: str) -> Any:
        claim = self._claim
        try:
            body = await self._keys.download(url, access_token)
        except KeysUnavailable as error:
            raise _failed(f'while getting distributed claim "{claim}": {error}') from error
        parts, claims = _parsed(body, url, claim)
        issuer = str(claims.get("iss") or "")
        if issuer == _GOOGLE:
            issuer = f"https://{_GOOGLE}"
        keys = await self._keys_of(issuer)
        try:
            await self._verify(parts, claims, keys)
        except InvalidToken as error:
            raise _failed(f"verify distributed claim token: {error}") from error
        if claim not in claims:
            raise _failed(
                f'jwt returned by distributed claim endpoint "{url}" did not contain claim: {claim}'
            )
        return claims[claim]

    async def _keys_of(self, issuer: str) -> IssuerKeys:
        keys = self._issuers.get(issuer)
        if keys is None:
            keys = self._issuers[issuer] = self._keys.of(issuer)
        if keys.problem:
            try:
                await keys.discover()
            except KeysUnavailable as error:
                raise _failed(
                    f"verifying untrusted issuer {issuer} failed: verifier not initialized for "
                    f'issuer: "{issuer}": {error}'
                ) from error
        return keys

    def close(self) -> None:
        for keys in self._issuers.values():
            keys.close()


def _parsed(body: bytes, url: str, claim: str) -> tuple[list[str], Claims]:
    """The parts of a JWT and its claims, unverified. :raises InvalidToken: it is none."""
    parts = body.decode("latin-1").strip().split(".")
    claims: Any = None
    if len(parts) == 3:
        try:
            claims = orjson.loads(b64decode(parts[1]))
        except ValueError:
            pass
    if not isinstance(claims, dict):
        raise _failed(
            f'getting untrusted issuer from endpoint {url} failed for claim "{claim}": malformed '
            "token"
        )
    return parts, claims


def _is_map_of(value: Any, kind: type) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, kind) for each in value.values())


def _failed(problem: str) -> InvalidToken:
    return InvalidToken(f"oidc: could not expand distributed claims: {problem}")
