"""ResourceQuotas: countable resources and the scopes that fit them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core import resource_names
from pilothouse.apis.core.validation_resources import quota_resource_name_messages, resource_list
from pilothouse.apis.meta.errors import IMMUTABLE, invalid, required

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_POD_COMPUTE = frozenset(
    ("cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
)
_PODS = frozenset(("pods",))
_CLAIMS = frozenset(("persistentvolumeclaims", "requests.storage"))
_SCOPES = {
    "Terminating": _PODS | _POD_COMPUTE,
    "NotTerminating": _PODS | _POD_COMPUTE,
    "NotBestEffort": _PODS | _POD_COMPUTE,
    "PriorityClass": _PODS | _POD_COMPUTE,
    "CrossNamespacePodAffinity": _PODS | _POD_COMPUTE,
    "BestEffort": _PODS,
    "VolumeAttributesClass": _CLAIMS,
}
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_ONLY_EXISTS = (
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
)


def validate_resource_quota(quota: Obj) -> ErrorList:
    errors: ErrorList = []
    spec = quota.get("spec") or {}
    _amounts(errors, spec.get("hard"), "spec.hard")
    if spec.get("scopes"):
        _scopes(errors, spec)
    if spec.get("scopeSelector") is not None:
        _selector(errors, spec)
    return errors


def _amounts(errors: ErrorList, amounts: Obj | None, path: str) -> None:
    resource_list(errors, amounts, path, quota_resource_name_messages)


def _scopes(errors: ErrorList, spec: Obj) -> None:
    scopes = spec["scopes"]
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid("spec.scopes", scopes, "unsupported scope"))
        _fits(errors, scope, spec, "spec.scopes", scopes)
    _conflicts(errors, scopes, "spec.scopes", scopes)


def _fits(errors: ErrorList, scope: str, spec: Obj, path: str, shown: object) -> None:
    allowed = _SCOPES.get(scope)
    if allowed is None:
        return
    for name in sorted(spec.get("hard") or ()):
        if resource_names.is_standard_quota(name) and name not in allowed:
            errors.append(invalid(path, shown, "unsupported scope applied to resource"))


def _conflicts(errors: ErrorList, scopes: Iterable[str], path: str, shown: object) -> None:
    found = set(scopes)
    for pair in _CONFLICTS:
        if found.issuperset(pair):
            errors.append(invalid(path, shown, "conflicting scopes"))


def _selector(errors: ErrorList, spec: Obj) -> None:
    path, selector = "spec.scopeSelector.matchExpressions", spec["scopeSelector"]
    requirements = selector.get("matchExpressions") or ()
    for requirement in requirements:
        scope, operator = requirement.get("scopeName") or "", requirement.get("operator") or ""
        values = requirement.get("values") or ()
        if scope not in _SCOPES:
            errors.append(invalid(f"{path}.scopeName", scope, "unsupported scope"))
        _fits(errors, scope, spec, path, selector)
        if scope in _ONLY_EXISTS and operator != "Exists":
            message = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            errors.append(invalid(f"{path}.operator", operator, message))
        if operator in ("In", "NotIn"):
            if not values:
                message = (
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope "
                    "selector"
                )
                errors.append(required(f"{path}.values", message))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                message = (
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope "
                    "selector"
                )
                errors.append(invalid(f"{path}.values", values, message))
        else:
            errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    scopes = [r.get("scopeName") or "" for r in requirements]
    _conflicts(errors, scopes, path, spec.get("scopes"))


def validate_resource_quota_update(quota: Obj, old: Obj) -> ErrorList:
    errors = validate_resource_quota(quota)
    scopes = (quota.get("spec") or {}).get("scopes") or []
    if set(scopes) != set((old.get("spec") or {}).get("scopes") or ()):
        errors.append(invalid("spec.scopes", scopes, IMMUTABLE))
    return errors


def validate_resource_quota_status_update(quota: Obj) -> ErrorList:
    errors: ErrorList = []
    status = quota.get("status") or {}
    _amounts(errors, status.get("hard"), "status.hard")
    _amounts(errors, status.get("used"), "status.used")
    return errors
