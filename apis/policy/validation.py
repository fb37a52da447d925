"""PodDisruptionBudgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.conditions import validate_conditions
from pilothouse.apis.meta.errors import invalid, not_supported

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def validate_pod_disruption_budget(budget: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = budget.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        message = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid("spec", _go_spec(spec), message))
    for field in ("minAvailable", "maxUnavailable"):
        value = spec.get(field)
        if value is not None:
            check.int_or_percent(errors, value, f"spec.{field}")
            check.at_most_100_percent(errors, value, f"spec.{field}")
    allow = False
    if old is not None:
        old_errors: ErrorList = []
        check.label_selector(old_errors, (old.get("spec") or {}).get("selector"), "")
        allow = bool(old_errors)
    selector = spec.get("selector")
    check.label_selector(errors, selector, "spec.selector", allow_invalid_values=allow)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _EVICTION_POLICIES:
        at = "spec.unhealthyPodEvictionPolicy"
        errors.append(not_supported(at, policy, _EVICTION_POLICIES))
    return errors


def _go_spec(spec: Obj) -> Obj:
    """As upstream's internal type is shown."""
    fields = ("minAvailable", "selector", "maxUnavailable", "unhealthyPodEvictionPolicy")
    return {field[0].upper() + field[1:]: spec.get(field) for field in fields}


def validate_pod_disruption_budget_status(budget: Obj) -> ErrorList:
    errors: ErrorList = []
    status = budget.get("status") or {}
    validate_conditions(errors, status.get("conditions") or (), "status.conditions")
    for field in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        check.nonnegative(errors, status, field, "status")
    return errors
