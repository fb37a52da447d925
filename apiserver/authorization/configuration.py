"""Which authorizers, in which order: ``--authorization-config``, or the flags of old.

The file is an AuthorizationConfiguration (apiserver.config.k8s.io, v1 down to v1alpha1); it may
name several webhooks with match conditions and failure policies, and is read again when it
changes. Reading and checking only; ``build.py`` makes the authorizers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import (
    ErrorList,
    duplicate,
    invalid,
    not_supported,
    required,
    too_many,
)
from pilothouse.apimachinery.fieldpath import Path as FieldPath
from pilothouse.apimachinery.names import is_dns1123_subdomain
from pilothouse.apimachinery.timefmt import format_duration, parse_duration

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

MODES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
VERSIONS = ("v1", "v1beta1", "v1alpha1")
_AUTHORIZED_TTL, _UNAUTHORIZED_TTL = 300.0, 30.0
_FLAG_WEBHOOK = "default"
_SHAPE = {
    "authorizers": [
        {
            "type": "string",
            "name": "string",
            "webhook": {
                "authorizedTTL": "duration",
                "cacheAuthorizedRequests": "bool",
                "unauthorizedTTL": "duration",
                "cacheUnauthorizedRequests": "bool",
                "timeout": "duration",
                "subjectAccessReviewVersion": "string",
                "matchConditionSubjectAccessReviewVersion": "string",
                "failurePolicy": "string",
                "connectionInfo": {"type": "string", "kubeConfigFile": "string"},
                "matchConditions": [{"expression": "string"}],
            },
        }
    ]
}


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """TTLs of 0: not kept. Seconds."""

    kubeconfig: str
    version: str = "v1beta1"
    authorized_ttl: float = _AUTHORIZED_TTL
    unauthorized_ttl: float = _UNAUTHORIZED_TTL
    timeout: float = 30.0
    deny_on_failure: bool = False
    expressions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizerSettings:
    """One authorizer of the chain."""

    type: str
    name: str
    webhook: WebhookSettings | None = field(default=None)


def settings_from_flags(config: Any, modes: Iterable[str]) -> list[AuthorizerSettings]:
    """:raises ValueError: flags that do not fit together, with upstream's text."""
    modes = list(modes)
    policy_file = getattr(config, "authorization_policy_file", "")
    webhook_file = getattr(config, "authorization_webhook_config_file", "")
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f'authorization-mode "{mode}" is not a valid mode')
        if mode == "ABAC" and not policy_file:
            raise ValueError("authorization-mode ABAC's authorization policy file not passed")
        if mode == "Webhook" and not webhook_file:
            raise ValueError("authorization-mode Webhook's authorization config file not passed")
    if policy_file and "ABAC" not in modes:
        raise ValueError("cannot specify --authorization-policy-file without mode ABAC")
    if webhook_file and "Webhook" not in modes:
        raise ValueError("cannot specify --authorization-webhook-config-file without mode Webhook")
    if len(modes) != len(set(modes)):
        listed = " ".join(f'"{mode}"' for mode in modes)
        raise ValueError(f"authorization-mode [{listed}] has mode specified more than once")
    return [_from_flag(config, mode) for mode in modes]


def _from_flag(config: Any, mode: str) -> AuthorizerSettings:
    if mode != "Webhook":
        return AuthorizerSettings(mode, mode.lower())
    settings = WebhookSettings(
        config.authorization_webhook_config_file,
        config.authorization_webhook_version,
        config.authorization_webhook_cache_authorized_ttl,
        config.authorization_webhook_cache_unauthorized_ttl,
    )
    return AuthorizerSettings(mode, _FLAG_WEBHOOK, settings)


def load_settings(data: bytes, required_types: Iterable[str] = ()) -> list[AuthorizerSettings]:
    """Of a file's contents. ``required_types``: those that a changed file must still have.

    :raises ValueError: with upstream's text.
    """
    from pilothouse.apiserver.configuration_file import aggregate, load_configuration

    try:
        config = load_configuration(
            data, "apiserver.config.k8s.io", "AuthorizationConfiguration", VERSIONS, _SHAPE
        )
    except ValueError as error:
        raise ValueError(f"failed to load AuthorizationConfiguration from file: {error}") from error
    authorizers = config.get("authorizers") or []
    if errors := validate(authorizers):
        raise ValueError(aggregate(errors))
    found = [_settings_of(each) for each in authorizers]
    problems = [
        f"expected name {each.type.lower()} for authorizer {each.type} instead of {each.name}"
        for each in found
        if each.webhook is None and each.name != each.type.lower()
    ]
    missing = sorted(set(required_types) - {each.type for each in found})
    if missing:
        problems.append(f"missing required types: [{' '.join(missing)}]")
    if problems:
        raise ValueError(aggregate(problems))
    return found


def _settings_of(each: Obj) -> AuthorizerSettings:
    webhook = each.get("webhook")
    if each["type"] != "Webhook" or webhook is None:
        return AuthorizerSettings(each["type"], each["name"])

    def ttl(name: str, flag: str, default: float) -> float:
        if webhook.get(flag) is False:
            return 0.0
        return _seconds(webhook.get(name)) or default

    settings = WebhookSettings(
        webhook["connectionInfo"].get("kubeConfigFile") or "",
        webhook["subjectAccessReviewVersion"],
        ttl("authorizedTTL", "cacheAuthorizedRequests", _AUTHORIZED_TTL),
        ttl("unauthorizedTTL", "cacheUnauthorizedRequests", _UNAUTHORIZED_TTL),
        _seconds(webhook["timeout"]),
        webhook["failurePolicy"] == "Deny",
        tuple(condition["expression"] for condition in webhook.get("matchConditions") or ()),
    )
    return AuthorizerSettings("Webhook", each["name"], settings)


def _seconds(text: str | None) -> float:
    return parse_duration(text) if text else 0.0


def validate(authorizers: list[Obj]) -> ErrorList:
    """ValidateAuthorizationConfiguration."""
    path = FieldPath("authorizers")
    found: ErrorList = []
    if not authorizers:
        found.append(required(path, "at least one authorization mode must be defined"))
    types: set[str] = set()
    names: set[str] = set()
    for number, each in enumerate(authorizers):
        here = path.index(number)
        kind, name = each.get("type") or "", each.get("name") or ""
        if not kind:
            found.append(required(here.child("type")))
            continue
        if kind not in MODES:
            found.append(not_supported(here.child("type"), kind, MODES))
            continue
        if kind in types and kind != "Webhook":
            found.append(duplicate(here.child("type"), kind))
            continue
        types.add(kind)
        if not name:
            found.append(required(here.child("name")))
        elif name in names:
            found.append(duplicate(here.child("name"), name))
        elif problems := is_dns1123_subdomain(name):
            detail = f"authorizer name is invalid: {', '.join(problems)}"
            found.append(invalid(here.child("name"), name, detail))
        names.add(name)
        found += _validate_webhook_field(each, here, kind)
    return found


def _validate_webhook_field(each: Obj, path: FieldPath, kind: str) -> ErrorList:
    webhook = each.get("webhook")
    if kind != "Webhook":
        if webhook is None:
            return []
        detail = "may only be specified when type=Webhook"
        return [invalid(path.child("webhook"), "non-null", detail)]
    if webhook is None:
        return [required(path.child("webhook"), "required when type=Webhook")]
    # Upstream leaves ``webhook`` out of the paths of its fields.
    return _validate_webhook(webhook, path)


def _validate_webhook(webhook: Obj, path: FieldPath) -> ErrorList:
    found: ErrorList = []
    timeout = _seconds(webhook.get("timeout"))
    if not timeout:
        found.append(required(path.child("timeout")))
    elif not 0 < timeout <= 30:
        detail = "must be > 0s and <= 30s"
        found.append(invalid(path.child("timeout"), format_duration(timeout), detail))
    for name in ("authorizedTTL", "unauthorizedTTL"):
        if (ttl := _seconds(webhook.get(name))) < 0:
            found.append(invalid(path.child(name), format_duration(ttl), "must be > 0s"))
    found += _one_of(webhook, path, "subjectAccessReviewVersion", ("v1", "v1beta1"))
    conditions = webhook.get("matchConditions") or []
    version = "matchConditionSubjectAccessReviewVersion"
    if webhook.get(version):
        found += _one_of(webhook, path, version, ("v1",))
    elif conditions:
        detail = "required if match conditions are specified"
        found.append(required(path.child(version), detail))
    found += _one_of(webhook, path, "failurePolicy", ("NoOpinion", "Deny"))
    found += _validate_connection(webhook.get("connectionInfo") or {}, path)
    return found + validate_conditions(conditions, path.child("matchConditions"))


def _one_of(webhook: Obj, path: FieldPath, name: str, allowed: tuple[str, ...]) -> ErrorList:
    value = webhook.get(name) or ""
    if not value:
        return [required(path.child(name))]
    return [] if value in allowed else [not_supported(path.child(name), value, allowed)]


def _validate_connection(info: Obj, path: FieldPath) -> ErrorList:
    path = path.child("connectionInfo")
    kind, file = info.get("type") or "", info.get("kubeConfigFile")
    if not kind:
        return [required(path.child("type"))]
    where = path.child("kubeConfigFile")
    if kind == "InClusterConfig":
        if file is None:
            return []
        return [invalid(where, file, "can only be set when type=KubeConfigFile")]
    if kind != "KubeConfigFile":
        return [not_supported(path.child("type"), kind, ("InClusterConfig", "KubeConfigFile"))]
    if not file:
        return [required(where)]
    target = Path(file)
    if not target.is_absolute():
        return [invalid(where, file, "must be an absolute path")]
    if not target.exists():
        missing = f"error loading file: stat {file}: no such file or directory"
        return [invalid(where, file, missing)]
    if not target.is_file():
        return [invalid(where, file, "must be a regular file")]
    return []


def validate_conditions(conditions: list[Obj], path: FieldPath) -> ErrorList:
    """Match conditions: present, different, and compilable."""
    from pilothouse.apiserver.authorization.match_conditions import compile_condition

    if len(conditions) > 64:
        return [too_many(path, len(conditions), 64)]
    found: ErrorList = []
    seen: set[str] = set()
    for number, condition in enumerate(conditions):
        here = path.index(number).child("expression")
        expression = condition.get("expression") or ""
        if not expression.strip():
            found.append(required(here))
        elif expression in seen:
            found.append(duplicate(here, expression))
        else:
            seen.add(expression)
            try:
                compile_condition(expression)
            except ValueError as error:
                found.append(invalid(here, expression, str(error)))
    return found
