"""RBAC policy rules: matching, covering, and their printed form; pure functions.

``compile_rule`` turns a wire PolicyRule into sets once; ``rbac.py`` asks the compiled form.
Escalation checks and reconciliation work on the wire form (``covers``, ``compact``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

ALL = "*"
_FIELDS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


class CompiledRule(NamedTuple):
    """None stands for "everything"; an empty set for nothing."""

    verbs: frozenset[str] | None
    groups: frozenset[str] | None
    resources: frozenset[str] | None
    """Holds ``pods``, ``pods/log`` and ``*/scale`` alike."""
    names: frozenset[str] | None
    urls: frozenset[str]
    url_prefixes: tuple[str, ...]
    wire: Obj

    def allows_resource(self, verb: str, group: str, combined: str, wildcard: str) -> bool:
        """Whether it allows, names aside. ``combined`` is ``pods/log``, ``wildcard`` ``*/log``
        (or empty without a sub-resource)."""
        return (
            (self.verbs is None or verb in self.verbs)
            and (self.groups is None or group in self.groups)
            and (
                self.resources is None
                or combined in self.resources
                or (wildcard != "" and wildcard in self.resources)
            )
        )

    def allows_path(self, verb: str, path: str) -> bool:
        return (self.verbs is None or verb in self.verbs) and (
            path in self.urls or any(path.startswith(prefix) for prefix in self.url_prefixes)
        )


def _or_all(values: Sequence[str] | None) -> frozenset[str] | None:
    items = frozenset(values or ())
    return None if ALL in items else items


def compile_rule(rule: Obj) -> CompiledRule:
    urls = rule.get("nonResourceURLs") or ()
    names = rule.get("resourceNames")
    return CompiledRule(
        verbs=_or_all(rule.get("verbs")),
        groups=_or_all(rule.get("apiGroups")),
        resources=_or_all(rule.get("resources")),
        names=frozenset(names) if names else None,
        urls=frozenset(urls),
        url_prefixes=tuple(url.rstrip(ALL) for url in urls if url.endswith(ALL)),
        wire=rule,
    )


class RuleReview(NamedTuple):
    """What a user may do in a namespace, as far as the authorizers can list it."""

    resource_rules: list[Obj]
    non_resource_rules: list[Obj]
    incomplete: bool = False
    error: str = ""


def break_down(rule: Obj) -> list[Obj]:
    """Rules with one verb, one resource and one name each that mean the same together."""
    verbs = rule.get("verbs") or ()
    names = rule.get("resourceNames") or ()
    single: list[Obj] = []
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                base: Obj = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                if names:
                    single.extend({**base, "resourceNames": [name]} for name in names)
                else:
                    single.append(base)
    for url in rule.get("nonResourceURLs") or ():
        single.extend({"verbs": [verb], "nonResourceURLs": [url]} for verb in verbs)
    return single


def missing_rules(owner: Iterable[Obj], servant: Iterable[Obj]) -> list[Obj]:
    """The single rules of ``servant`` that no rule of ``owner`` covers (validation.Covers)."""
    owners = list(owner)
    return [
        single
        for rule in servant
        for single in break_down(rule)
        if not any(_rule_covers(candidate, single) for candidate in owners)
    ]


def _covers_all(owned: Sequence[str], wanted: Sequence[str]) -> bool:
    return ALL in owned or all(value in owned for value in wanted)


def _resource_covered(owned: Sequence[str], path: str) -> bool:
    if ALL in owned or path in owned:
        return True
    _, slash, subresource = path.partition("/")
    return bool(slash) and f"*/{subresource}" in owned


def _url_covered(owned: Sequence[str], path: str) -> bool:
    return any(
        path == url or (url.endswith(ALL) and path.startswith(url.rstrip(ALL))) for url in owned
    )


def _rule_covers(owner: Obj, single: Obj) -> bool:
    owner_names = owner.get("resourceNames") or ()
    names = single.get("resourceNames") or ()
    resources = owner.get("resources") or ()
    urls = owner.get("nonResourceURLs") or ()
    return (
        _covers_all(owner.get("verbs") or (), single["verbs"])
        and _covers_all(owner.get("apiGroups") or (), single.get("apiGroups") or ())
        and all(_resource_covered(resources, path) for path in single.get("resources") or ())
        and all(_url_covered(urls, path) for path in single.get("nonResourceURLs") or ())
        and (not owner_names or (bool(names) and all(name in owner_names for name in names)))
    )


def compact(rules: Iterable[Obj]) -> list[Obj]:
    """Joins the verbs of rules that differ in nothing else (CompactRules)."""
    simple: dict[tuple[str, str, str | None], Obj] = {}
    others: list[Obj] = []
    for rule in rules:
        groups: list[str] = rule.get("apiGroups") or []
        resources: list[str] = rule.get("resources") or []
        names: list[str] = rule.get("resourceNames") or []
        is_simple = len(groups) == 1 and len(resources) == 1 and len(names) <= 1
        if not is_simple or rule.get("nonResourceURLs"):
            others.append(rule)
            continue
        key = (groups[0], resources[0], names[0] if names else None)
        known = simple.get(key)
        if known is None:
            simple[key] = {**rule, "verbs": list(rule.get("verbs") or ())}
        else:
            known["verbs"].extend(rule.get("verbs") or ())
    return others + list(simple.values())


def quoted_list(values: Iterable[str]) -> str:
    """A string slice as Go's %q prints it: ``["a" "b"]``."""
    return "[" + " ".join(json.dumps(value, ensure_ascii=False) for value in values) + "]"


def compact_string(rule: Obj) -> str:
    """``{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}``."""
    titles = (
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("nonResourceURLs", "NonResourceURLs"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    )
    parts = [f"{title}:{quoted_list(rule[key])}" for key, title in titles if rule.get(key)]
    return "{" + ", ".join(parts) + "}"


def rule_key(rule: Obj) -> tuple[tuple[str, ...], ...]:
    """Two rules with the same key say the same in the same order."""
    return tuple(tuple(rule.get(field) or ()) for field in _FIELDS)
