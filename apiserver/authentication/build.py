"""Puts the authenticators of one API server together from its flags.

Reads upstream's flags by their names in snake_case from the configuration; a flag that the
configuration does not have counts as unset.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.authentication.jws import KeySet
from pilothouse.apiserver.authentication.serviceaccount import (
    LEGACY_ISSUER,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    ServiceAccountTokens,
    TokenCounts,
)
from pilothouse.apiserver.authentication.tokens import TokenAuthenticator, UnionTokenAuthenticator
from pilothouse.apiserver.authentication.union import RequestAuthenticator
from pilothouse.apiserver.authentication.x509 import X509Authenticator
from pilothouse.componentbase.der import pem_blocks, read_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.authentication.request_header import RequestHeaderAuthenticator
    from pilothouse.componentbase.metrics import Registry
    from pilothouse.componentbase.tasks import TaskOwner

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"


class ClusterAuthenticator(RequestAuthenticator):
    """With what issuing tokens and discovery need of it."""

    keys: KeySet
    anonymous_paths: frozenset[str] | None = None
    """Where strangers are let in; None: everywhere (if they are at all)."""
    token_counts: TokenCounts | None = None
    """How service account tokens were used."""
    issuers: tuple[str, ...] = ()
    api_audiences: tuple[str, ...] = ()


def flag_list(config: Any, name: str) -> tuple[str, ...]:
    """A flag that may hold one text (commas separate) or a sequence."""
    value = getattr(config, name, None) or ()
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    if isinstance(value, Path):
        parts = (value,)
    return tuple(str(part).strip() for part in parts if str(part).strip())


def build_authenticator(
    config: Any,
    listers: Listers,
    clock: Clock,
    *,
    random: Random | None = None,
    tasks: TaskOwner | None = None,
    metrics: Registry | None = None,
) -> ClusterAuthenticator:
    """``tasks``: where keys are fetched and changed files read. :raises OSError, ValueError."""
    # Tokens are checked against these synchronously: their caches start now.
    for resource in (SERVICE_ACCOUNTS, PODS, SECRETS, NODES):
        listers.list(resource)
    keys = key_set(config)
    issuers = flag_list(config, "service_account_issuer") or (DEFAULT_ISSUER,)
    audiences = flag_list(config, "api_audiences") or issuers[:1]
    tokens: list[TokenAuthenticator] = []
    if token_file := getattr(config, "token_auth_file", None):
        from pilothouse.apiserver.authentication.tokenfile import TokenFile

        tokens.append(TokenFile.load(token_file))
    accepted = (*issuers, LEGACY_ISSUER)
    own = ServiceAccountTokens(keys, accepted, audiences, listers, clock)
    tokens.append(own)
    if getattr(config, "enable_bootstrap_token_auth", False):
        from pilothouse.apiserver.authentication.bootstrap import BootstrapTokens

        tokens.append(BootstrapTokens(listers, clock))
    settings = None
    if getattr(config, "authentication_config", "") or getattr(config, "oidc_issuer_url", ""):
        from pilothouse.apiserver.authentication.jwt_build import build_jwt

        jwt, settings = build_jwt(config, clock, tasks, issuers, metrics)
        if jwt is not None:
            tokens.append(jwt)
    if getattr(config, "authentication_token_webhook_config_file", ""):
        tokens.append(_webhook(config, audiences, clock, random or Random()))
    request_header = _request_header(config, clock)
    anonymous = getattr(config, "anonymous_auth", None)
    paths = None
    if settings is not None and settings.anonymous is not None:
        anonymous, paths = settings.anonymous, settings.anonymous_paths
    authenticator = ClusterAuthenticator(
        x509=X509Authenticator(clock, _client_issuers(config) if request_header else frozenset()),
        tokens=tokens[0] if len(tokens) == 1 else UnionTokenAuthenticator(tokens),
        request_header=request_header,
        anonymous=anonymous is None or bool(anonymous),
    )
    authenticator.anonymous_paths = None if paths is None else frozenset(paths)
    authenticator.keys = keys
    authenticator.token_counts = own.counts
    authenticator.issuers = issuers
    authenticator.api_audiences = audiences
    return authenticator


def _webhook(
    config: Any, audiences: Sequence[str], clock: Clock, random: Random
) -> TokenAuthenticator:
    from pilothouse.apiserver.authentication.review_client import ReviewClient
    from pilothouse.apiserver.authentication.token_cache import CachedTokenAuthenticator
    from pilothouse.apiserver.authentication.webhook import WebhookTokens

    client = ReviewClient(config.authentication_token_webhook_config_file, clock, random)
    ttl = config.authentication_token_webhook_cache_ttl
    tokens = WebhookTokens(client, config.authentication_token_webhook_version, audiences)
    return CachedTokenAuthenticator(tokens, clock, success_ttl=ttl, failure_ttl=ttl)


def key_set(config: Any) -> KeySet:
    """Files are read when the first token is signed or verified."""
    signing = str(getattr(config, "service_account_signing_key_file", None) or "")
    return KeySet.from_files(signing, flag_list(config, "service_account_key_file"))


def _request_header(config: Any, clock: Clock) -> RequestHeaderAuthenticator | None:
    ca_file = getattr(config, "requestheader_client_ca_file", None)
    if not ca_file:
        return None
    from pilothouse.apiserver.authentication.request_header import RequestHeaderAuthenticator

    return RequestHeaderAuthenticator(
        clock,
        Path(ca_file).read_bytes(),
        allowed_names=flag_list(config, "requestheader_allowed_names"),
        username_headers=flag_list(config, "requestheader_username_headers") or ("X-Remote-User",),
        group_headers=flag_list(config, "requestheader_group_headers") or ("X-Remote-Group",),
        uid_headers=flag_list(config, "requestheader_uid_headers") or ("X-Remote-Uid",),
        extra_prefixes=flag_list(config, "requestheader_extra_headers_prefix")
        or ("X-Remote-Extra-",),
    )


def _client_issuers(config: Any) -> frozenset[bytes]:
    """Subjects of the client CAs: TLS trusts the front proxy's CA too, whose certificates
    must not name users. A name is not a proof, but TLS has verified that one of the two CAs
    signed, and their subjects differ."""
    ca_file = getattr(config, "client_ca_file", None)
    if not ca_file:
        return frozenset()
    blocks = pem_blocks(Path(ca_file).read_bytes())
    return frozenset(read_certificate(block).subject_der for block in blocks)
