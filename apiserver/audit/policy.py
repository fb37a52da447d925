"""The audit policy: which requests are recorded, and how much of each (pkg/audit/policy).

Read once at start; ``Policy.evaluate`` is the first rule that matches, without any I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.names import is_dns1123_subdomain

if TYPE_CHECKING:
    from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes

REQUEST_RECEIVED = "RequestReceived"
RESPONSE_STARTED = "ResponseStarted"
RESPONSE_COMPLETE = "ResponseComplete"
PANIC = "Panic"
STAGES = (REQUEST_RECEIVED, RESPONSE_STARTED, RESPONSE_COMPLETE, PANIC)
API_VERSION = "audit.k8s.io/v1"


class Level(IntEnum):
    """How much of a request is recorded; each level holds what the ones before it do."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def text(self) -> str:
        return _LEVEL_NAMES[self]


_LEVEL_NAMES = ("None", "Metadata", "Request", "RequestResponse")
_LEVELS = {name: Level(i) for i, name in enumerate(_LEVEL_NAMES)}


@dataclass(frozen=True, slots=True)
class Recording:
    """What is to be recorded of one request."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class _Rule:
    recording: Recording
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[tuple[str, tuple[str, ...], frozenset[str]], ...]
    urls: tuple[str, ...]

    def matches(self, asked: AuthorizationAttributes) -> bool:
        if self.users and asked.user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(asked.user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return asked.resource_request and self._matches_resource(asked)
        if self.urls:
            return not asked.resource_request and any(_covers(u, asked.path) for u in self.urls)
        return True

    def _matches_resource(self, asked: AuthorizationAttributes) -> bool:
        if self.namespaces and asked.namespace not in self.namespaces:
            return False
        if not self.resources:
            return True
        sub = asked.subresource
        accepted = {"*", f"{asked.resource}/{sub}" if sub else asked.resource}
        accepted.add(f"{asked.resource}/*")
        if sub:
            accepted.add(f"*/{sub}")
        for group, resources, names in self.resources:
            if group not in (asked.group, "*"):
                continue
            if not resources:
                return True
            if (not names or asked.name in names) and not accepted.isdisjoint(resources):
                return True
        return False


def _covers(spec: str, path: str) -> bool:
    if spec in ("*", path):
        return True
    return spec.endswith("*") and path.startswith(spec.rstrip("*"))


class Policy:
    """The rules of one policy file, in order."""

    def __init__(self, rules: tuple[_Rule, ...], otherwise: Recording) -> None:
        self._rules = rules
        self._otherwise = otherwise

    def evaluate(self, asked: AuthorizationAttributes) -> Recording:
        for rule in self._rules:
            if rule.matches(asked):
                return rule.recording
        return self._otherwise


def load_policy(path: str) -> Policy:
    """:raises ValueError: the file can't be read, or is no policy; the text is upstream's."""
    import yaml

    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f'loading audit policy file: failed to read file path "{path}": {error}'
        ) from error
    try:
        content = yaml.safe_load(text)
        return policy_of(content)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"loading audit policy file: {error}: from file {path}") from error


def policy_of(content: Any) -> Policy:
    """A decoded audit.k8s.io/v1 Policy. :raises ValueError: what is wrong with it."""
    if not isinstance(content, dict):
        raise ValueError("failed decoding: the policy is no object")
    if (content.get("apiVersion"), content.get("kind")) != (API_VERSION, "Policy"):
        found = f"{content.get('apiVersion')}, Kind={content.get('kind')}"
        raise ValueError(f"unknown group version field {found} in policy")
    errors = _stage_errors("omitStages", content.get("omitStages"))
    rules = content.get("rules") or []
    for i, rule in enumerate(rules):
        errors += _rule_errors(f"rules[{i}]", rule)
    if errors:
        raise ValueError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    if not rules:
        raise ValueError("loaded illegal policy with 0 rules")
    stages = frozenset(content.get("omitStages") or ())
    without_fields = bool(content.get("omitManagedFields"))
    return Policy(
        tuple(_rule(rule, stages, without_fields) for rule in rules),
        Recording(Level.NONE, stages, without_fields),
    )


def _rule(rule: dict[str, Any], omitted: frozenset[str], without_fields: bool) -> _Rule:
    own = rule.get("omitManagedFields")
    return _Rule(
        Recording(
            _LEVELS[rule["level"]],
            omitted.union(rule.get("omitStages") or ()),
            without_fields if own is None else bool(own),
        ),
        frozenset(rule.get("users") or ()),
        frozenset(rule.get("userGroups") or ()),
        frozenset(rule.get("verbs") or ()),
        frozenset(rule.get("namespaces") or ()),
        tuple(
            (
                each.get("group") or "",
                tuple(each.get("resources") or ()),
                frozenset(each.get("resourceNames") or ()),
            )
            for each in rule.get("resources") or ()
        ),
        tuple(rule.get("nonResourceURLs") or ()),
    )


def _rule_errors(path: str, rule: dict[str, Any]) -> list[str]:
    errors = []
    level = rule.get("level") or ""
    if not level:
        errors.append(f"{path}.level: Required value")
    elif level not in _LEVELS:
        supported = ", ".join(f'"{name}"' for name in _LEVEL_NAMES)
        errors.append(f'{path}.level: Unsupported value: "{level}": supported values: {supported}')
    urls = rule.get("nonResourceURLs") or []
    for i, url in enumerate(urls):
        where = f'{path}.nonResourceURLs[{i}]: Invalid value: "{url}"'
        if url == "*":
            continue
        if not url.startswith("/"):
            errors.append(f"{where}: non-resource URL rules must begin with a '/' character")
        if "*" in url[:-1]:
            errors.append(
                f"{where}: non-resource URL wildcards '*' must be the final character of the rule"
            )
    errors += _resource_errors(f"{path}.resources", rule.get("resources") or [])
    errors += _stage_errors(f"{path}.omitStages", rule.get("omitStages"))
    if urls and (rule.get("resources") or rule.get("namespaces")):
        listed = ",".join(f'"{url}"' for url in urls)
        errors.append(
            f"{path}.nonResourceURLs: Invalid value: [{listed}]: "
            "rules cannot apply to both regular resources and non-resource URLs"
        )
    return errors


def _resource_errors(path: str, resources: list[dict[str, Any]]) -> list[str]:
    errors = []
    for each in resources:
        group = each.get("group") or ""
        if group not in ("", "*") and (found := is_dns1123_subdomain(group)):
            errors.append(f'{path}.group: Invalid value: "{group}": {",".join(found)}')
        if each.get("resourceNames") and not each.get("resources"):
            listed = ",".join(f'"{name}"' for name in each["resourceNames"])
            errors.append(
                f"{path}.resourceNames: Invalid value: [{listed}]: "
                "using resourceNames requires at least one resource"
            )
    return errors


def _stage_errors(path: str, stages: list[str] | None) -> list[str]:
    return [
        f'{path}[{i}]: Invalid value: "{stage}": allowed stages are {",".join(STAGES)}'
        for i, stage in enumerate(stages or ())
        if stage not in STAGES
    ]
