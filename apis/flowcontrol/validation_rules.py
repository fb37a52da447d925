"""Which requests a FlowSchema is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_VERBS = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
)
_SUBJECTS = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}


def validate_rules(errors: ErrorList, rules: Iterable[Obj], path: str) -> None:
    for i, rule in enumerate(rules):
        at = f"{path}[{i}]"
        subjects = rule.get("subjects") or ()
        if not subjects:
            message = "subjects must contain at least one value"
            errors.append(required(f"{at}.subjects", message))
        for j, subject in enumerate(subjects):
            _subject(errors, subject, f"{at}.subjects[{j}]")
        resources, others = rule.get("resourceRules") or (), rule.get("nonResourceRules") or ()
        if not resources and not others:
            message = "at least one of resourceRules and nonResourceRules has to be non-empty"
            errors.append(required(at, message))
        for j, resource in enumerate(resources):
            _resource_rule(errors, resource, f"{at}.resourceRules[{j}]")
        for j, other in enumerate(others):
            _non_resource_rule(errors, other, f"{at}.nonResourceRules[{j}]")


def _subject(errors: ErrorList, subject: Obj, path: str) -> None:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECTS:
        errors.append(not_supported(f"{path}.kind", kind, sorted(_SUBJECTS)))
        return
    field = _SUBJECTS[kind]
    at, found = f"{path}.{field}", subject.get(field)
    if found is None:
        errors.append(required(at, f"{field} is required when subject kind is '{kind}'"))
    else:
        name = found.get("name") or ""
        if not name:
            errors.append(required(f"{at}.name"))
        if kind == "ServiceAccount":
            _service_account(errors, found, name, at)
    for other_kind, other in _SUBJECTS.items():
        if other != field and subject.get(other) is not None:
            message = f"{other} is forbidden when subject kind is not '{other_kind}'"
            errors.append(forbidden(f"{path}.{other}", message))


def _service_account(errors: ErrorList, account: Obj, name: str, path: str) -> None:
    if name and name != "*":
        check.dns_subdomain(errors, name, f"{path}.name")
    namespace = account.get("namespace") or ""
    if namespace:
        check.dns_label(errors, namespace, f"{path}.namespace")
    else:
        message = "must specify namespace for service account"
        errors.append(required(f"{path}.namespace", message))


def _verbs(errors: ErrorList, rule: Obj, path: str) -> None:
    verbs = rule.get("verbs") or []
    if not verbs:
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    elif "*" in verbs:
        _alone(errors, verbs, f"{path}.verbs", "verbs")
    elif any(verb not in _VERBS for verb in verbs):
        errors.append(not_supported(f"{path}.verbs", verbs, _VERBS))


def _alone(errors: ErrorList, values: Sequence[str], path: str, what: str) -> None:
    if len(values) > 1 and "*" in values:
        message = f"if '*' is present, must not specify other {what}"
        errors.append(invalid(path, values, message))


def _resource_rule(errors: ErrorList, rule: Obj, path: str) -> None:
    _verbs(errors, rule, path)
    for field, one, many in (
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ):
        values = rule.get(field) or []
        if not values:
            message = f"resource rules must supply at least one {one}"
            errors.append(required(f"{path}.{field}", message))
        _alone(errors, values, f"{path}.{field}", many)
    namespaces = rule.get("namespaces") or []
    at = f"{path}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        message = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(at, message))
    elif "*" in namespaces:
        _alone(errors, namespaces, at, "namespaces")
    else:
        intro = "each member of this list must be '*' or a DNS-1123 label; "
        for i, namespace in enumerate(namespaces):
            for message in names.is_dns1123_label(namespace):
                errors.append(invalid(f"{at}[{i}]", namespace, intro + message))


def _non_resource_rule(errors: ErrorList, rule: Obj, path: str) -> None:
    _verbs(errors, rule, path)
    urls = rule.get("nonResourceURLs") or []
    at = f"{path}.nonResourceURLs"
    if not urls:
        errors.append(required(at, "nonResourceURLs must contain at least one value"))
    elif "*" in urls:
        _alone(errors, urls, at, "non-resource URLs")
    else:
        for i, url in enumerate(urls):
            message = _url_message(url)
            if message:
                errors.append(invalid(f"{at}[{i}]", url, message))


def _url_message(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    if url.count("*") > 1 or ("*" in url and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""
