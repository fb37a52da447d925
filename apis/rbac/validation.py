"""Roles and bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import IMMUTABLE, add_all, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

GROUP = "rbac.authorization.k8s.io"


def set_binding_defaults(binding: Obj) -> None:
    role = binding.setdefault("roleRef", {})
    if not role.get("apiGroup"):
        role["apiGroup"] = GROUP
    for subject in binding.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


def validate_role(role: Obj, *, namespaced: bool) -> ErrorList:
    errors: ErrorList = []
    for i, rule in enumerate(role.get("rules") or ()):
        _rule(errors, rule, namespaced, f"rules[{i}]")
    aggregation = role.get("aggregationRule")
    if aggregation is not None and not namespaced:
        path = "aggregationRule.clusterRoleSelectors"
        selectors = aggregation.get("clusterRoleSelectors") or ()
        if not selectors:
            message = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(required(path, message))
        for i, selector in enumerate(selectors):
            known = len(errors)
            check.label_selector(errors, selector, f"{path}[{i}]")
            if len(errors) > known:
                errors.append(invalid(f"{path}[{i}]", None, "invalid label selector."))
    return errors


def _rule(errors: ErrorList, rule: Obj, namespaced: bool, path: str) -> None:
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs"))
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            message = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, message))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            message = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(f"{path}.nonResourceURLs", urls, message))
        return
    if not rule.get("apiGroups"):
        message = "resource rules must supply at least one api group"
        errors.append(required(f"{path}.apiGroups", message))
    if not rule.get("resources"):
        message = "resource rules must supply at least one resource"
        errors.append(required(f"{path}.resources", message))


def validate_binding(binding: Obj, *, namespaced: bool) -> ErrorList:
    errors: ErrorList = []
    role = binding.get("roleRef") or {}
    if role.get("apiGroup") != GROUP:
        errors.append(not_supported("roleRef.apiGroup", role.get("apiGroup") or "", (GROUP,)))
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    if role.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", role.get("kind") or "", kinds))
    name = role.get("name") or ""
    if not name:
        errors.append(required("roleRef.name"))
    else:
        add_all(errors, "roleRef.name", name, names.is_path_segment_name(name))
    for i, subject in enumerate(binding.get("subjects") or ()):
        _subject(errors, subject, namespaced, f"subjects[{i}]")
    return errors


def _subject(errors: ErrorList, subject: Obj, namespaced: bool, path: str) -> None:
    kind, name = subject.get("kind") or "", subject.get("name") or ""
    group = subject.get("apiGroup") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            add_all(errors, f"{path}.name", name, names.is_dns1123_subdomain(name))
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            errors.append(not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        kinds = ("ServiceAccount", "User", "Group")
        errors.append(not_supported(f"{path}.kind", kind, kinds))


def validate_binding_update(binding: Obj, old: Obj, *, namespaced: bool) -> ErrorList:
    errors = validate_binding(binding, namespaced=namespaced)
    role, before = binding.get("roleRef") or {}, old.get("roleRef") or {}
    if role != before:
        # Upstream shows its internal type for the one and the served type for the other.
        fields = (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
        internal = {go: role.get(field) or "" for go, field in fields}
        errors.append(invalid("roleRef", internal if namespaced else role, IMMUTABLE))
    return errors
