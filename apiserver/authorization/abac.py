"""--authorization-mode=ABAC: a policy per line of ``--authorization-policy-file`` (auth/abac)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from pilothouse.apiserver.authorization.interfaces import Decision
from pilothouse.apiserver.authorization.rules import RuleReview

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
    from pilothouse.apiserver.request.context import UserInfo

log = logging.getLogger(__name__)
_API_VERSIONS = ("abac.authorization.kubernetes.io/v1beta1", "abac.authorization.kubernetes.io/v0")
_READ_ONLY = ("get", "list", "watch")
_AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True, slots=True)
class Policy:
    """``*`` stands for everything, but for users and groups: those are the authenticated ones.
    A policy names a user, a group, or both."""

    user: str = ""
    group: str = ""
    readonly: bool = False
    api_group: str = ""
    resource: str = ""
    namespace: str = ""
    path: str = ""

    def is_for(self, user: UserInfo) -> bool:
        if self.user and self.user != user.name:
            return False
        if self.group and self.group not in user.groups:
            return False
        return bool(self.user or self.group)

    def matches(self, attributes: AuthorizationAttributes) -> bool:
        if not self.is_for(attributes.user):
            return False
        if self.readonly and attributes.verb not in _READ_ONLY:
            return False
        if attributes.resource_request:
            return (
                self.namespace in ("*", attributes.namespace)
                and self.resource in ("*", attributes.resource)
                and self.api_group in ("*", attributes.group)
            )
        if self.path in ("*", attributes.path):
            return True
        return self.path.endswith("*") and attributes.path.startswith(self.path.rstrip("*"))


class ABACAuthorizer:
    def __init__(self, policies: list[Policy]) -> None:
        self._policies = policies

    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        if any(policy.matches(attributes) for policy in self._policies):
            return Decision.ALLOW, ""
        return Decision.NO_OPINION, "No policy matched."

    def rules_for(self, user: UserInfo, namespace: str) -> RuleReview:
        resource_rules: list[Obj] = []
        other_rules: list[Obj] = []
        for policy in self._policies:
            if not policy.is_for(user) or policy.namespace not in ("*", namespace):
                continue
            verbs = list(_READ_ONLY) if policy.readonly else ["*"]
            if policy.resource:
                resource_rules.append(
                    {
                        "verbs": verbs,
                        "apiGroups": [policy.api_group],
                        "resources": [policy.resource],
                    }
                )
            if policy.path:
                other_rules.append({"verbs": verbs, "nonResourceURLs": [policy.path]})
        return RuleReview(resource_rules, other_rules)


def load_policies(path: str) -> list[Policy]:
    """:raises OSError: no file. :raises ValueError: a line that is no policy."""
    policies: list[Policy] = []
    unversioned = 0
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            obj = orjson.loads(text)
            if not isinstance(obj, dict):
                raise ValueError("not an object")
            versioned = bool(obj.get("kind") and obj.get("apiVersion"))
            policies.append(_policy(obj) if versioned else _unversioned(obj))
        except ValueError as error:
            raise ValueError(
                f"error reading policy file {path}, line {number}: {line}: {error}"
            ) from error
        unversioned += not versioned
    if unversioned:
        log.warning("Policy file %s contained unversioned rules.", path)
    return policies


def _policy(obj: Obj) -> Policy:
    if obj["kind"] != "Policy" or obj["apiVersion"] not in _API_VERSIONS:
        raise ValueError(f'no kind "{obj["kind"]}" is registered for version "{obj["apiVersion"]}"')
    if obj["apiVersion"].endswith("/v0"):
        return _unversioned(obj)
    spec = obj.get("spec") or {}
    user, group = spec.get("user") or "", spec.get("group") or ""
    everybody = "*" in (user, group)
    return Policy(
        user="" if everybody else user,
        group=_AUTHENTICATED if everybody else group,
        readonly=bool(spec.get("readonly")),
        api_group=spec.get("apiGroup") or "",
        resource=spec.get("resource") or "",
        namespace=spec.get("namespace") or "",
        path=spec.get("nonResourcePath") or "",
    )


def _unversioned(obj: Obj) -> Policy:
    """The form of long ago: an empty field means everything."""
    user, group = obj.get("user") or "", obj.get("group") or ""
    namespace, resource = obj.get("namespace") or "", obj.get("resource") or ""
    everybody = "*" in (user, group) or not (user or group)
    return Policy(
        user="" if everybody else user,
        group=_AUTHENTICATED if everybody else group,
        readonly=bool(obj.get("readonly")),
        api_group="*",
        resource=resource or "*",
        namespace=namespace or "*",
        path="" if namespace or resource else "*",
    )
