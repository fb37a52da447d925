"""HorizontalPodAutoscalers (autoscaling/v2) and Scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.autoscaling.validation_metrics import api_version_message, validate_metrics
from pilothouse.apis.autoscaling.validation_metrics import validate_reference as _reference
from pilothouse.apis.core.resource_names import parse_quantity
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    NOT_NEGATIVE,
    NOT_POSITIVE,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

MAX_PERIOD_SECONDS = 1800
MAX_STABILIZATION_SECONDS = 3600
_POLICY_SELECTS = ("Disabled", "Max", "Min")
_POLICY_TYPES = ("Percent", "Pods")


def validate_scale(scale: Obj) -> ErrorList:
    errors: ErrorList = []
    check.nonnegative(errors, scale.get("spec") or {}, "replicas", "spec")
    return errors


def validate_autoscaler(autoscaler: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec, before = autoscaler.get("spec") or {}, (old or {}).get("spec") or {}
    _replicas(errors, spec)
    target, old_target = spec.get("scaleTargetRef") or {}, before.get("scaleTargetRef")
    kept = old_target is not None and all(
        (old_target.get(field) or "") == (target.get(field) or "")
        for field in ("apiVersion", "kind")
    )
    _reference(
        errors,
        target,
        "spec.scaleTargetRef",
        empty_group=target.get("kind") == "ReplicationController",
        any_version=kept,
    )
    any_version = any(
        api_version_message(metric["object"].get("describedObject") or {}, empty_group=True)
        for metric in before.get("metrics") or ()
        if metric.get("type") == "Object" and metric.get("object") is not None
    )
    validate_metrics(errors, spec, any_version=any_version)
    behavior = spec.get("behavior") or {}
    for field in ("scaleUp", "scaleDown"):
        if behavior.get(field) is not None:
            _rules(errors, behavior[field], f"spec.behavior.{field}")
    return errors


def _replicas(errors: ErrorList, spec: Obj) -> None:
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if low is not None and low < 0:
        errors.append(invalid("spec.minReplicas", low, NOT_NEGATIVE))
    if high == 0:
        errors.append(required("spec.maxReplicas"))
    elif high < 0:
        message = "must be greater than or equal to 1"
        errors.append(invalid("spec.maxReplicas", high, message))
    if low is not None and high < low:
        message = "must be greater than or equal to `minReplicas`"
        errors.append(invalid("spec.maxReplicas", high, message))


def _rules(errors: ErrorList, rules: Obj, path: str) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        message = "must be greater than or equal to zero"
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, message))
    if window is not None and window > MAX_STABILIZATION_SECONDS:
        message = f"must be less than or equal to {MAX_STABILIZATION_SECONDS}"
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, message))
    select = rules.get("selectPolicy")
    if select is not None and select not in _POLICY_SELECTS:
        errors.append(not_supported(f"{path}.selectPolicy", select, _POLICY_SELECTS))
    policies = rules.get("policies") or ()
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        _policy(errors, policy, f"{path}.policies[{i}]")
    tolerance = rules.get("tolerance")
    if tolerance is not None and parse_quantity(tolerance) < parse_quantity("0"):
        errors.append(invalid(f"{path}.tolerance", str(tolerance), NOT_NEGATIVE))


def _policy(errors: ErrorList, policy: Obj, path: str) -> None:
    if policy.get("type") not in _POLICY_TYPES:
        errors.append(not_supported(f"{path}.type", policy.get("type") or "", _POLICY_TYPES))
    for field in ("value", "periodSeconds"):
        if (policy.get(field) or 0) <= 0:
            errors.append(invalid(f"{path}.{field}", policy.get(field) or 0, NOT_POSITIVE))
    period = policy.get("periodSeconds") or 0
    if period > MAX_PERIOD_SECONDS:
        message = f"must be less than or equal to {MAX_PERIOD_SECONDS}"
        errors.append(invalid(f"{path}.periodSeconds", period, message))


def validate_autoscaler_status_update(autoscaler: Obj) -> ErrorList:
    errors: ErrorList = []
    status = autoscaler.get("status") or {}
    for i, condition in enumerate(status.get("conditions") or ()):
        check.nonnegative(errors, condition, "observedGeneration", f"status.conditions[{i}]")
    check.nonnegative(errors, status, "currentReplicas", "status")
    check.nonnegative(errors, status, "desiredReplicas", "status")
    return errors
