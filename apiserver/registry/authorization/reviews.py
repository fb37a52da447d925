"""The access reviews: kinds that ask the authorizer and are never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_bad_request, new_invalid
from pilothouse.apimachinery.fieldpath import ErrorList, Path, invalid, required
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.selectors import field_selector_text, label_selector_text
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.authorization.union import RuleAuthorizer

GROUP = "authorization.k8s.io"
_EXACTLY_ONE = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


def _user_of(spec: Obj) -> UserInfo:
    extra = tuple(sorted((k, tuple(v or ())) for k, v in (spec.get("extra") or {}).items()))
    return UserInfo(
        spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra
    )


def attributes_of(user: UserInfo, spec: Obj) -> AuthorizationAttributes:
    """The question that a review's spec puts."""
    return _attributes(user, spec)[0]


def _attributes(user: UserInfo, spec: Obj) -> tuple[AuthorizationAttributes, list[str]]:
    """The question, and which of its parts could not be read."""
    asked = spec.get("resourceAttributes")
    if asked is None:
        path = spec.get("nonResourceAttributes") or {}
        verb, where = path.get("verb") or "", path.get("path") or ""
        return AuthorizationAttributes(user, verb, resource_request=False, path=where), []
    fields, field_problem = field_selector_text(asked.get("fieldSelector") or {})
    labels, label_problem = label_selector_text(asked.get("labelSelector") or {})
    attributes = AuthorizationAttributes(
        user,
        asked.get("verb") or "",
        group=asked.get("group") or "",
        version=asked.get("version") or "*",
        resource=asked.get("resource") or "",
        subresource=asked.get("subresource") or "",
        namespace=asked.get("namespace") or "",
        name=asked.get("name") or "",
        field_selector=fields,
        label_selector=labels,
    )
    return attributes, [problem for problem in (field_problem, label_problem) if problem]


def _decide(obj: Obj, authorizer: Authorizer, user: UserInfo) -> Obj:
    attributes, problems = _attributes(user, obj.get("spec") or {})
    decision, reason = authorizer.authorize(attributes)
    status: Obj = {"allowed": decision is Decision.ALLOW}
    if decision is Decision.DENY:
        status["denied"] = True
    if reason:
        status["reason"] = reason
    if failed := getattr(authorizer, "error", ""):
        problems.insert(0, failed)
    if problems:
        status["evaluationError"] = "; ".join(problems)
    return {**obj, "status": status}


def subject_access_review(obj: Obj, authorizer: Authorizer) -> Obj:
    """May the user of the spec? :raises StatusError: 422."""
    _raise_if(validate_subject_review(obj))
    return _decide(obj, authorizer, _user_of(obj["spec"]))


def local_subject_access_review(obj: Obj, authorizer: Authorizer, namespace: str) -> Obj:
    """The same within one namespace. :raises StatusError: 400 or 422."""
    metadata = {"namespace": namespace, **(obj.get("metadata") or {})}
    obj = {**obj, "metadata": metadata}
    _raise_if(validate_local_review(obj))
    if metadata.get("namespace") != namespace:
        raise new_bad_request(
            f"spec.resourceAttributes.namespace must match namespace: {namespace}"
        )
    return _decide(obj, authorizer, _user_of(obj["spec"]))


def self_subject_access_review(obj: Obj, authorizer: Authorizer, user: UserInfo) -> Obj:
    """May the caller? :raises StatusError: 422."""
    _raise_if(validate_self_review(obj))
    return _decide(obj, authorizer, user)


def self_subject_rules_review(obj: Obj, authorizer: RuleAuthorizer, user: UserInfo) -> Obj:
    """What may the caller do in a namespace? :raises StatusError: 400 without one."""
    namespace = (obj.get("spec") or {}).get("namespace")
    if not namespace:
        raise new_bad_request("no namespace on request")
    review = authorizer.rules_for(user, namespace)
    status: Obj = {
        "resourceRules": review.resource_rules,
        "nonResourceRules": review.non_resource_rules,
        "incomplete": review.incomplete,
    }
    if review.error:
        status["evaluationError"] = review.error
    return {
        "kind": obj.get("kind") or "SelfSubjectRulesReview",
        "apiVersion": obj.get("apiVersion") or f"{GROUP}/v1",
        "metadata": {},
        "spec": {},
        "status": status,
    }


def _raise_if(problems: ErrorList) -> None:
    """Upstream's error names no kind: a decoded object has forgotten its own."""
    if problems:
        raise new_invalid(GroupKind(GROUP, ""), "", problems)


def _one_question(spec: Obj) -> ErrorList:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (other is None):
        return [invalid(Path("spec"), other, _EXACTLY_ONE)]
    return []


def _someone(spec: Obj) -> ErrorList:
    if spec.get("user") or spec.get("groups"):
        return []
    detail = "at least one of user or group must be specified"
    return [invalid(Path("spec", "user"), spec.get("user") or "", detail)]


def _selectors(spec: Obj) -> ErrorList:
    found: ErrorList = []
    asked: dict[str, Any] = spec.get("resourceAttributes") or {}
    for field in ("fieldSelector", "labelSelector"):
        selector = asked.get(field)
        if selector is None:
            continue
        path = Path("spec", "resourceAttributes", field)
        raw, requirements = selector.get("rawSelector"), selector.get("requirements")
        if raw and requirements:
            detail = "may not specified at the same time as requirements"
            found.append(invalid(path.child("rawSelector"), raw, detail))
        if not raw and not requirements:
            detail = f"when {path} is specified, requirements or rawSelector is required"
            found.append(required(path.child("requirements"), detail))
    return found


def _empty_metadata(obj: Obj, *allowed: str) -> ErrorList:
    metadata = obj.get("metadata") or {}
    rest = {k: v for k, v in metadata.items() if v and k not in ("managedFields", *allowed)}
    if not rest:
        return []
    detail = "must be empty except for namespace" if allowed else "must be empty"
    return [invalid(Path("metadata"), metadata, detail)]


def validate_subject_review(obj: Obj) -> ErrorList:
    spec = obj.get("spec") or {}
    return _one_question(spec) + _someone(spec) + _selectors(spec) + _empty_metadata(obj)


def validate_self_review(obj: Obj) -> ErrorList:
    spec = obj.get("spec") or {}
    return _one_question(spec) + _selectors(spec) + _empty_metadata(obj)


def validate_local_review(obj: Obj) -> ErrorList:
    spec = obj.get("spec") or {}
    found = _one_question(spec) + _someone(spec) + _selectors(spec)
    found += _empty_metadata(obj, "namespace")
    asked = spec.get("resourceAttributes")
    home = (obj.get("metadata") or {}).get("namespace") or ""
    if asked is not None and (asked.get("namespace") or "") != home:
        path = Path("spec", "resourceAttributes", "namespace")
        found.append(invalid(path, asked.get("namespace") or "", "must match metadata.namespace"))
    if (other := spec.get("nonResourceAttributes")) is not None:
        path = Path("spec", "nonResourceAttributes")
        found.append(invalid(path, other, "disallowed on this kind of request"))
    return found
