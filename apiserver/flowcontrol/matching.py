"""Which flow schema a request belongs to (pkg/util/flowcontrol/rule.go). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.request.context import UserInfo
    from pilothouse.apiserver.request.info import RequestInfo

_ACCOUNT = "system:serviceaccount:"


def by_precedence(schemas: Iterable[Obj]) -> list[Obj]:
    """In the order in which they are tried."""
    return sorted(
        schemas, key=lambda s: (s["spec"].get("matchingPrecedence", 1000), s["metadata"]["name"])
    )


def matches(schema: Obj, user: UserInfo, info: RequestInfo) -> bool:
    for rule in schema["spec"].get("rules") or ():
        if not any(_is_subject(user, subject) for subject in rule.get("subjects") or ()):
            continue
        if info.is_resource_request:
            if any(_fits(info, one) for one in rule.get("resourceRules") or ()):
                return True
        elif any(_covers(info, one) for one in rule.get("nonResourceRules") or ()):
            return True
    return False


def _is_subject(user: UserInfo, subject: Obj) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        return (subject.get("user") or {}).get("name") in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name is not None and (name == "*" or name in user.groups)
    account = subject.get("serviceAccount")
    if kind != "ServiceAccount" or not account:
        return False
    namespace, name = account.get("namespace", ""), account.get("name", "")
    if name == "*":
        return user.name.startswith(f"{_ACCOUNT}{namespace}:")
    return user.name == f"{_ACCOUNT}{namespace}:{name}"


def _fits(info: RequestInfo, rule: Obj) -> bool:
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (
        _among(info.verb, rule.get("verbs") or ())
        and _among(resource, rule.get("resources") or ())
        and _among(info.api_group, rule.get("apiGroups") or ())
    ):
        return False
    if not info.namespace:
        return bool(rule.get("clusterScope"))
    return _among(info.namespace, rule.get("namespaces") or ())


def _covers(info: RequestInfo, rule: Obj) -> bool:
    if not _among(info.verb, rule.get("verbs") or ()):
        return False
    for url in rule.get("nonResourceURLs") or ():
        if url in ("*", info.path):
            return True
        prefix = url.removesuffix("*")
        if info.path.startswith(prefix if prefix.endswith("/") else f"{prefix}/"):
            return True
    return False


def _among(value: str, listed: Sequence[str]) -> bool:
    return value in listed or (len(listed) == 1 and listed[0] == "*")


def distinguisher(schema: Obj, user: UserInfo, info: RequestInfo) -> str:
    """What tells the flows of one schema apart."""
    method = (schema["spec"].get("distinguisherMethod") or {}).get("type")
    if method == "ByUser":
        return user.name
    return info.namespace if method == "ByNamespace" else ""
