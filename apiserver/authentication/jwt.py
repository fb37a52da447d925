"""Tokens of trusted issuers (OpenID Connect): verified, then mapped to a user.

Each :class:`JWTAuthenticator` knows one issuer and leaves other tokens alone. Mapping and rules
are claims or CEL expressions, compiled once. What has been verified is remembered for a few
seconds (``token_cache.py``), as upstream does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apiserver.authentication.distributed_claims import ClaimResolver
from pilothouse.apiserver.authentication.issuer_keys import KeysUnavailable
from pilothouse.apiserver.authentication.jws import b64decode
from pilothouse.apiserver.authentication.jwt_expressions import (
    compile_claims,
    compile_user,
    evaluate,
    strings_of,
    user_value,
)
from pilothouse.apiserver.authentication.token_cache import TransientError
from pilothouse.apiserver.authentication.tokens import InvalidToken, TokenInfo
from pilothouse.apiserver.authentication.users import CREDENTIAL_ID
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.authentication.issuer_keys import IssuerKeys
    from pilothouse.apiserver.authentication.jwt_settings import JWTSettings, Mapping

NOT_BEFORE_LEEWAY = 300.0
_GOOGLE = "accounts.google.com"
Claims = dict[str, Any]


class JWTAuthenticator:
    """One issuer."""

    def __init__(
        self,
        settings: JWTSettings,
        keys: IssuerKeys,
        clock: Clock,
        on_result: Callable[..., None] | None = None,
    ) -> None:
        """``on_result(seconds, succeeded=…)`` is told of each token.

        :raises ValueError: an expression that does not compile.
        """
        self._on_result = on_result
        self.settings = settings
        self.keys = keys
        self._clock = clock
        self._username = _Mapper(settings.username)
        self._groups = _Mapper(settings.groups)
        self._resolver: ClaimResolver | None = None
        if settings.groups.claim:
            self._resolver = ClaimResolver(settings.groups.claim, keys, self._verify)
        self._uid = _Mapper(settings.uid)
        self._extra = [(key, compile_claims(value)) for key, value in settings.extra]
        self._claim_rules = [
            (compile_claims(rule.expression, condition=True), rule.message)
            for rule in settings.claim_rules
            if rule.expression
        ]
        self._user_rules = [
            (compile_user(rule.expression), rule.message) for rule in settings.user_rules
        ]

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        parts = token.split(".")
        if len(parts) != 3:
            return None
        claims = _json(parts[1])
        if claims is None:
            return None
        issuer = claims.get("iss")
        if issuer == _GOOGLE:
            issuer = f"https://{_GOOGLE}"
        if issuer != self.settings.url:
            return None
        if self.keys.problem:
            raise TransientError("oidc: authenticator not initialized")
        start, succeeded = perf_counter(), False
        try:
            await self._verify(parts, claims, self.keys)
            if self._resolver is not None:
                await self._resolver.expand(claims)
            found = TokenInfo(self._user(claims))
            succeeded = True
        finally:
            if self._on_result is not None:
                self._on_result(perf_counter() - start, succeeded=succeeded)
        return found

    def close(self) -> None:
        self.keys.close()
        if self._resolver is not None:
            self._resolver.close()

    async def _verify(self, parts: list[str], claims: Claims, keys: IssuerKeys) -> None:
        self._check_claims(claims)
        header = _json(parts[0]) or {}
        algorithm = header.get("alg")
        if algorithm not in self.settings.algorithms:
            listed = " ".join(f'"{name}"' for name in self.settings.algorithms)
            raise _wrong(
                f"oidc: id token signed with unsupported algorithm, expected [{listed}] got "
                f'"{algorithm}"'
            )
        try:
            signature = b64decode(parts[2])
        except ValueError as error:
            raise _wrong(f"oidc: malformed jwt: {error}") from error
        data = f"{parts[0]}.{parts[1]}".encode()
        key_id = str(header.get("kid") or "")
        try:
            good = await keys.verify(key_id, str(algorithm), data, signature)
        except KeysUnavailable as error:
            raise TransientError(
                f"oidc: verify token: failed to verify signature: fetching keys {error}"
            ) from error
        if not good:
            raise _wrong("failed to verify signature: failed to verify id token signature")

    def _check_claims(self, claims: Claims) -> None:
        audience = claims.get("aud")
        given = audience if isinstance(audience, list) else [audience] if audience else []
        wanted = self.settings.audiences
        if not any(each in wanted for each in given):
            shown = " ".join(f'"{each}"' for each in given)
            if len(wanted) == 1:
                raise _wrong(f'oidc: expected audience "{wanted[0]}" got [{shown}]')
            listed = " ".join(f'"{each}"' for each in sorted(wanted))
            raise _wrong(f"oidc: expected audience in [{listed}] got [{shown}]")
        now = self._clock.time()
        expiry: Any = claims.get("exp")
        not_before: Any = claims.get("nbf")
        if not _is_number(expiry):
            raise _wrong("oidc: token is expired (Token Expiry: 0001-01-01 00:00:00 +0000 UTC)")
        if expiry < now:
            raise _wrong(f"oidc: token is expired (Token Expiry: {expiry})")
        if not_before is not None:
            if not _is_number(not_before):
                raise _wrong("oidc: failed to unmarshal claims: nbf is no number")
            if now + NOT_BEFORE_LEEWAY < not_before:
                raise _wrong("oidc: current time is before the nbf (not before) time")

    def _user(self, claims: Claims) -> UserInfo:
        """:raises InvalidToken: nobody, or somebody who must not."""
        name = self._name(claims)
        groups: tuple[str, ...] = ()
        if self._groups.program is not None or self._groups.mapping.claim in claims:
            groups = self._group_names(claims)
        uid = ""
        if self._uid:
            uid = self._uid.text(claims, "uid claim")
        extra: dict[str, tuple[str, ...]] = {}
        token_id = claims.get("jti")
        if isinstance(token_id, str) and token_id:
            extra[CREDENTIAL_ID] = (f"JTI={token_id}",)
        for key, program in self._extra:
            if values := strings_of(evaluate(program, claims=claims)):
                extra[key] = values
        user = UserInfo(name, groups, uid, tuple(sorted(extra.items())))
        self._check_rules(claims, user)
        return user

    def _name(self, claims: Claims) -> str:
        name = self._username.text(claims, "username claim")
        if self._username.program is not None:
            if not name:
                raise InvalidToken("oidc: empty username via CEL expression is not allowed")
            return name
        if self._username.mapping.claim == "email" and "email_verified" in claims:
            verified = claims["email_verified"]
            if not isinstance(verified, bool):
                raise InvalidToken("oidc: parse 'email_verified' claim: not a bool")
            if not verified:
                raise InvalidToken("oidc: email not verified")
        return (self._username.mapping.prefix or "") + name

    def _group_names(self, claims: Claims) -> tuple[str, ...]:
        if self._groups.program is not None:
            return strings_of(evaluate(self._groups.program, claims=claims))
        claim, prefix = self._groups.mapping.claim, self._groups.mapping.prefix or ""
        value = claims[claim]
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise InvalidToken(f'oidc: parse groups claim "{claim}": not a string or strings')
        return tuple(prefix + each for each in values)

    def _check_rules(self, claims: Claims, user: UserInfo) -> None:
        for rule in self.settings.claim_rules:
            if not rule.claim:
                continue
            if rule.claim not in claims:
                raise InvalidToken(f"oidc: required claim {rule.claim} not present in ID token")
            value = claims[rule.claim]
            if not isinstance(value, str):
                raise InvalidToken(f"oidc: parse claim {rule.claim}: not a string")
            if value != rule.required_value:
                raise InvalidToken(
                    f"oidc: required claim {rule.claim} value does not match. "
                    f"Got = {value}, want = {rule.required_value}"
                )
        for program, message in self._claim_rules:
            if evaluate(program, claims=claims) is not True:
                raise InvalidToken(
                    "oidc: error evaluating claim validation expression: validation expression "
                    f"'{program.expression}' failed: {message}"
                )
        for program, message in self._user_rules:
            if evaluate(program, user=user_value(user)) is not True:
                raise InvalidToken(
                    "oidc: error evaluating user info validation rule: validation expression "
                    f"'{program.expression}' failed: {message}"
                )


class _Mapper:
    """A compiled mapping; false when there is none."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.program = compile_claims(mapping.expression) if mapping.expression else None

    def __bool__(self) -> bool:
        return self.program is not None or bool(self.mapping.claim)

    def text(self, claims: Claims, what: str) -> str:
        if self.program is not None:
            value = evaluate(self.program, claims=claims)
            if not isinstance(value, str):
                raise InvalidToken(
                    f"oidc: error evaluating {what} expression: {what} expression must return a "
                    "string"
                )
            return value
        claim = self.mapping.claim
        value = claims.get(claim)
        if not isinstance(value, str):
            problem = "claim not present" if claim not in claims else "not a string"
            raise InvalidToken(f'oidc: parse {what}s "{claim}": {problem}')
        return value


def _wrong(text: str) -> InvalidToken:
    return InvalidToken(f"oidc: verify token: {text}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _json(part: str) -> Claims | None:
    try:
        # Not Python's own: that takes NaN for a number, which no date is later than.
        value = orjson.loads(b64decode(part))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
