"""Which issuers' tokens log people in, and as whom: ``--authentication-config`` or ``--oidc-*``.

The file is an AuthenticationConfiguration (apiserver.config.k8s.io, v1 down to v1alpha1). Here
it is read; ``jwt_validation.py`` checks it, ``jwt.py`` uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.authentication.jwk import ALGORITHMS

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

VERSIONS = ("v1", "v1beta1", "v1alpha1")
_PREFIXED = {"claim": "string", "prefix": "string", "expression": "string"}
_SHAPE = {
    "jwt": [
        {
            "issuer": {
                "url": "string",
                "discoveryURL": "string",
                "certificateAuthority": "string",
                "audiences": ["string"],
                "audienceMatchPolicy": "string",
                "egressSelectorType": "string",
            },
            "claimValidationRules": [
                {
                    "claim": "string",
                    "requiredValue": "string",
                    "expression": "string",
                    "message": "string",
                }
            ],
            "claimMappings": {
                "username": _PREFIXED,
                "groups": _PREFIXED,
                "uid": {"claim": "string", "expression": "string"},
                "extra": [{"key": "string", "valueExpression": "string"}],
            },
            "userValidationRules": [{"expression": "string", "message": "string"}],
        }
    ],
    "anonymous": {"enabled": "bool", "conditions": [{"path": "string"}]},
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """From a claim, with a prefix, or by an expression."""

    claim: str = ""
    prefix: str | None = None
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Of claims (one has a value, or an expression holds) or of the user (an expression)."""

    claim: str = ""
    required_value: str = ""
    expression: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JWTSettings:
    """One issuer."""

    url: str
    audiences: tuple[str, ...]
    username: Mapping
    groups: Mapping = Mapping()
    uid: Mapping = Mapping()
    extra: tuple[tuple[str, str], ...] = ()
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()
    discovery_url: str = ""
    ca: str = ""
    match_policy: str = ""
    egress_selector: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS


@dataclass(frozen=True, slots=True)
class AuthenticationSettings:
    """``anonymous`` None: as the flag says. ``anonymous_paths`` None: everywhere."""

    jwt: tuple[JWTSettings, ...] = ()
    anonymous: bool | None = None
    anonymous_paths: tuple[str, ...] | None = field(default=None)


def settings_from_flags(config: Any) -> AuthenticationSettings:
    """:raises ValueError: flags that do not fit together. :raises OSError: the CA file."""
    url, client = config.oidc_issuer_url, config.oidc_client_id
    if bool(url) != bool(client):
        raise ValueError("oidc-issuer-url and oidc-client-id must be specified together")
    if not url:
        return AuthenticationSettings()
    claim, prefix = config.oidc_username_claim, config.oidc_username_prefix
    if prefix == "-":
        prefix = ""
    elif not prefix and claim != "email":
        prefix = f"{url}#"
    groups = Mapping()
    if config.oidc_groups_claim:
        groups = Mapping(config.oidc_groups_claim, config.oidc_groups_prefix)
    rules = []
    for pair in config.oidc_required_claim:
        name, found, value = pair.partition("=")
        if not found:
            raise ValueError(f"--oidc-required-claim: {pair} must be formatted as key=value")
        rules.append(Rule(claim=name, required_value=value))
    for algorithm in config.oidc_signing_algs:
        if algorithm not in ALGORITHMS:
            raise ValueError(f'oidc: unsupported signing alg: "{algorithm}"')
    settings = JWTSettings(
        url,
        (client,),
        Mapping(claim, prefix),
        groups,
        claim_rules=tuple(rules),
        ca=Path(config.oidc_ca_file).read_text() if config.oidc_ca_file else "",
        algorithms=tuple(config.oidc_signing_algs),
    )
    return AuthenticationSettings((settings,))


def load_settings(data: bytes, disallowed_issuers: Sequence[str] = ()) -> AuthenticationSettings:
    """Of a file's contents, checked. :raises ValueError: with upstream's text."""
    from pilothouse.apiserver.authentication.jwt_validation import validate
    from pilothouse.apiserver.configuration_file import aggregate, load_configuration

    try:
        config = load_configuration(
            data, "apiserver.config.k8s.io", "AuthenticationConfiguration", VERSIONS, _SHAPE
        )
    except ValueError as error:
        raise ValueError(
            f"failed to load AuthenticationConfiguration from file: {error}"
        ) from error
    settings = _settings_of(config)
    if errors := validate(settings, disallowed_issuers):
        raise ValueError(f"invalid authentication configuration: {aggregate(errors)}")
    return settings


def _settings_of(config: Obj) -> AuthenticationSettings:
    anonymous = config.get("anonymous")
    issuers = tuple(_issuer_of(each) for each in config.get("jwt") or ())
    if anonymous is None:
        return AuthenticationSettings(issuers)
    conditions = anonymous.get("conditions")
    paths = tuple(c.get("path") or "" for c in conditions) if conditions else None
    return AuthenticationSettings(issuers, bool(anonymous.get("enabled")), paths)


def _issuer_of(each: Obj) -> JWTSettings:
    issuer, mappings = each.get("issuer") or {}, each.get("claimMappings") or {}
    return JWTSettings(
        issuer.get("url") or "",
        tuple(issuer.get("audiences") or ()),
        _mapping(mappings.get("username")),
        _mapping(mappings.get("groups")),
        _mapping(mappings.get("uid")),
        tuple(
            (extra.get("key") or "", extra.get("valueExpression") or "")
            for extra in mappings.get("extra") or ()
        ),
        tuple(_rule(rule) for rule in each.get("claimValidationRules") or ()),
        tuple(_rule(rule) for rule in each.get("userValidationRules") or ()),
        issuer.get("discoveryURL") or "",
        issuer.get("certificateAuthority") or "",
        issuer.get("audienceMatchPolicy") or "",
        issuer.get("egressSelectorType") or "",
    )


def _mapping(wire: Obj | None) -> Mapping:
    wire = wire or {}
    return Mapping(wire.get("claim") or "", wire.get("prefix"), wire.get("expression") or "")


def _rule(wire: Obj) -> Rule:
    return Rule(
        wire.get("claim") or "",
        wire.get("requiredValue") or "",
        wire.get("expression") or "",
        wire.get("message") or "",
    )
