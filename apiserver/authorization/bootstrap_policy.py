"""Upstream's bootstrap roles and bindings (v1.37), read from packed data.

``bootstrap_policy.json`` holds one role or binding a line (written by
``hack/update_bootstrap_policy.py``). The authorizer is seeded from here, so that decisions are
right before the objects are written; ``bootstrap/rbac.py`` writes them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object
from pilothouse.apiserver.authorization.rules import rule_key

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

GROUP = "rbac.authorization.k8s.io"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_KINDS = {
    "clusterRoles": "ClusterRole",
    "clusterRoleBindings": "ClusterRoleBinding",
    "roles": "Role",
    "roleBindings": "RoleBinding",
}
_RULE_FIELDS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


@cache
def _objects() -> tuple[Obj, ...]:
    packed = json.loads(Path(__file__).with_name("bootstrap_policy.json").read_bytes())
    objects = [_unpack(kind, row) for key, kind in _KINDS.items() for row in packed[key]]
    fill_aggregates(objects)
    return tuple(objects)


def bootstrap_objects() -> tuple[Obj, ...]:
    """ClusterRoles, ClusterRoleBindings, Roles, RoleBindings; shared, read-only."""
    return _objects()


def _unpack(kind: str, row: dict[str, Any]) -> Obj:
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults", **row.get("labels", {})}
    metadata: Obj = {
        "name": row["name"],
        "labels": labels,
        "annotations": {AUTO_UPDATE: "true"},
    }
    if "namespace" in row:
        metadata["namespace"] = row["namespace"]
    obj: Obj = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata}
    if "role" in row:
        role_kind, _, role_name = row["role"].partition("/")
        obj["roleRef"] = {"apiGroup": GROUP, "kind": role_kind, "name": role_name}
        if row["subjects"]:
            obj["subjects"] = [_unpack_subject(subject) for subject in row["subjects"]]
        return obj
    if "aggregate" in row:
        selectors = [{"matchLabels": labels} for labels in row["aggregate"]]
        obj["aggregationRule"] = {"clusterRoleSelectors": selectors}
    obj["rules"] = [_unpack_rule(rule) for rule in row.get("rules", ())]
    return obj


def _unpack_subject(text: str) -> Obj:
    kind, _, rest = text.partition("/")
    if kind == "ServiceAccount":
        namespace, _, name = rest.partition("/")
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind, "name": rest}


def _unpack_rule(packed: list[str]) -> Obj:
    rule: Obj = {field: part.split(",") for field, part in zip(_RULE_FIELDS, packed, strict=False)}
    # An empty apiGroups part is the core group beside resources and nothing beside URLs.
    if rule.get("resources", [""]) == [""]:
        rule.pop("resources", None)
        rule.pop("apiGroups", None)
    for field in ("resourceNames", "nonResourceURLs"):
        if rule.get(field) == [""]:
            del rule[field]
    return rule


def fill_aggregates(objects: list[Obj]) -> None:
    """Sets the rules of aggregated ClusterRoles as the aggregation controller does."""
    roles = {o["metadata"]["name"]: o for o in objects if o["kind"] == "ClusterRole"}
    for role in _in_dependency_order(roles):
        role["rules"] = aggregated_rules(role, roles)


def _in_dependency_order(roles: dict[str, Obj]) -> list[Obj]:
    """view, edit, admin: a role comes after the aggregated roles that it gathers."""
    waiting = {name: role for name, role in roles.items() if "aggregationRule" in role}
    ordered: list[Obj] = []
    while waiting:
        ready = [
            name
            for name, role in waiting.items()
            if not any(_gathers(role, other) for other in waiting.values() if other is not role)
        ] or list(waiting)
        ordered.extend(waiting.pop(name) for name in ready)
    return ordered


def _gathers(role: Obj, other: Obj) -> bool:
    labels = other["metadata"].get("labels") or {}
    return any(
        all(labels.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
        for selector in role["aggregationRule"].get("clusterRoleSelectors") or ()
    )


def aggregated_rules(role: Obj, roles: dict[str, Obj]) -> list[Obj]:
    """The rules of all roles that ``role`` selects, by role name, each rule once."""
    seen: dict[Any, Obj] = {}
    for name in sorted(roles):
        other = roles[name]
        if other is not role and _gathers(role, other):
            for rule in other.get("rules") or ():
                seen.setdefault(rule_key(rule), rule)
    return [copy_object(rule) for rule in seen.values()]
