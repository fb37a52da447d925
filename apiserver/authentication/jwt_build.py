"""Puts the JWT authenticators of a server together and exchanges them when the file changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.authentication.issuer_keys import IssuerKeys
from pilothouse.apiserver.authentication.jwt import JWTAuthenticator
from pilothouse.apiserver.authentication.jwt_settings import (
    AuthenticationSettings,
    load_settings,
    settings_from_flags,
)
from pilothouse.apiserver.authentication.metrics import JWTMetrics
from pilothouse.apiserver.authentication.token_cache import CachedTokenAuthenticator
from pilothouse.apiserver.authentication.tokens import TokenInfo, UnionTokenAuthenticator

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.metrics import Registry
    from pilothouse.componentbase.tasks import TaskOwner

log = logging.getLogger(__name__)
_SUCCESS_SECONDS = 10.0


class JWTTokens:
    """All issuers; ``replace`` exchanges them. Their discovery runs among ``tasks``."""

    def __init__(
        self, clock: Clock, tasks: TaskOwner | None, metrics: JWTMetrics | None = None
    ) -> None:
        self.metrics = metrics or JWTMetrics(clock, None)
        self._clock = clock
        self._tasks = tasks
        self._authenticators: list[JWTAuthenticator] = []
        self._current: CachedTokenAuthenticator | None = None
        self._looking: list[asyncio.Task[None]] = []
        self._generation = 0

    def replace(self, settings: AuthenticationSettings) -> None:
        """:raises ValueError: nothing changes then."""
        metrics = self.metrics
        made = [
            JWTAuthenticator(
                each,
                IssuerKeys(
                    each.url,
                    self._clock,
                    discovery_url=each.discovery_url,
                    ca=each.ca,
                    on_fetch=partial(metrics.keys_fetched, each.url),
                ),
                self._clock,
                on_result=partial(metrics.authenticated, each.url),
            )
            for each in settings.jwt
        ]
        for task in self._looking:
            task.cancel()
        self._generation += 1
        for old in self._authenticators:
            old.close()
            if all(old.settings.url != new.settings.url for new in made):
                metrics.forget(old.settings.url)
        self._authenticators = made
        self._current = CachedTokenAuthenticator(
            UnionTokenAuthenticator(made),
            self._clock,
            success_ttl=_SUCCESS_SECONDS,
            failure_ttl=0,
        )
        if self._tasks is not None:
            self._looking = [
                self._tasks.start(each.keys.run(), f"issuer-{self._generation}-{number}")
                for number, each in enumerate(made)
            ]

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        assert self._current is not None
        return await self._current.authenticate_token(token, audiences)

    def problems(self) -> list[str]:
        """Of issuers that have not been found, for health checks."""
        return [
            f'oidc: authenticator for issuer "{each.settings.url}" is not healthy: '
            f"{each.keys.problem}"
            for each in self._authenticators
            if each.keys.problem
        ]


def build_jwt(
    config: Any,
    clock: Clock,
    tasks: TaskOwner | None,
    issuers: Sequence[str],
    metrics: Registry | None = None,
) -> tuple[JWTTokens | None, AuthenticationSettings]:
    """``issuers``: of this server's own tokens, which no other may claim to be.

    :raises OSError, ValueError: the configuration.
    """
    file = getattr(config, "authentication_config", "")
    if not file:
        settings = settings_from_flags(config)
        if not settings.jwt:
            return None, settings
        from pilothouse.apiserver.authentication.jwt_validation import validate
        from pilothouse.apiserver.configuration_file import aggregate

        if errors := validate(settings, issuers):
            raise ValueError(f"invalid authentication configuration: {aggregate(errors)}")
        tokens = JWTTokens(clock, tasks, JWTMetrics(clock, metrics))
        tokens.replace(settings)
        return tokens, settings
    if config.oidc_issuer_url or config.oidc_client_id:
        raise ValueError("authentication-config file and oidc-* flags are mutually exclusive")
    data = Path(file).read_bytes()
    settings = load_settings(data, issuers)
    tokens = JWTTokens(clock, tasks, JWTMetrics(clock, metrics))
    tokens.replace(settings)
    tokens.metrics.applied(data)
    if tasks is not None:
        follow = _follow(file, data, tokens, settings, issuers, clock)
        tasks.start(follow, "authentication-config")
    return tokens, settings


async def _follow(
    file: str,
    data: bytes,
    tokens: JWTTokens,
    first: AuthenticationSettings,
    issuers: Sequence[str],
    clock: Clock,
) -> None:
    from pilothouse.componentbase.file_changes import FileChanges

    async for new in FileChanges(file, clock).follow(data):
        try:
            settings = load_settings(new, issuers)
            if (settings.anonymous, settings.anonymous_paths) != (
                first.anonymous,
                first.anonymous_paths,
            ):
                raise ValueError("anonymous: Forbidden: changed from initial configuration file")
            tokens.replace(settings)
        except ValueError as error:
            log.error("reloading authentication config: %s", error)
            tokens.metrics.reload(None)
            continue
        tokens.metrics.reload(new)
        log.info("reloaded authentication config")
