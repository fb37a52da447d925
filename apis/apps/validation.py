"""Deployments and ReplicaSets (pkg/apis/apps/validation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apis.core.validation_pod_spec import only_restart_always
from pilothouse.apis.core.validation_template import (
    SELECTOR_MISMATCH,
    template_options,
    validate_pod_template_spec,
    validate_replicas_status,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def validate_selector(errors: ErrorList, spec: Obj, kind: str) -> None:
    """``spec.selector`` is there, well formed and not empty."""
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
        return
    check.label_selector(errors, selector, "spec.selector")
    if check.selector_is_empty(selector):
        message = f"empty selector is invalid for {kind}"
        errors.append(invalid("spec.selector", selector, message))


def validate_selected_template(
    errors: ErrorList, spec: Obj, old: Obj | None, *, detail: str = "invalid label selector"
) -> bool:
    """The template matches the selector and is valid; False when the selector is no selector."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    try:
        parsed = selector_from_label_selector(selector)
    except ValueError:
        errors.append(invalid("spec.selector", selector, detail))
        return False
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is not None and not parsed.empty and not parsed.matches(labels):
        errors.append(invalid("spec.template.metadata.labels", labels, SELECTOR_MISMATCH))
    elif selector is None:
        errors.append(invalid("spec.template.metadata.labels", labels, SELECTOR_MISMATCH))
    old_template = None if old is None else (old.get("spec") or {}).get("template") or {}
    validate_pod_template_spec(errors, template, "spec.template", template_options(old_template))
    return True


def validate_deployment(deployment: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = deployment.get("spec") or {}
    check.nonnegative(errors, spec, "replicas", "spec")
    validate_selector(errors, spec, "deployment")
    if validate_selected_template(errors, spec, old):
        only_restart_always(errors, spec.get("template") or {}, "spec.template", "ReplicaSet")
    _strategy(errors, spec.get("strategy") or {})
    check.nonnegative(errors, spec, "minReadySeconds", "spec")
    check.nonnegative(errors, spec, "revisionHistoryLimit", "spec")
    check.nonnegative(errors, spec, "progressDeadlineSeconds", "spec")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        message = "must be greater than minReadySeconds"
        errors.append(invalid("spec.progressDeadlineSeconds", deadline, message))
    return errors


def _strategy(errors: ErrorList, strategy: Obj) -> None:
    path, kind, rolling = "spec.strategy", strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            message = "may not be specified when strategy `type` is 'Recreate'"
            errors.append(forbidden(f"{path}.rollingUpdate", message))
    elif kind == "RollingUpdate":
        if rolling is None:
            message = "this should be defaulted and never be nil"
            errors.append(required(f"{path}.rollingUpdate", message))
        else:
            _rolling_update(errors, rolling, f"{path}.rollingUpdate")
    else:
        shown = {"Type": kind or "", "RollingUpdate": rolling}
        errors.append(not_supported(path, shown, ("Recreate", "RollingUpdate")))


def _rolling_update(errors: ErrorList, rolling: Obj, path: str) -> None:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    check.int_or_percent(errors, unavailable, f"{path}.maxUnavailable")
    check.int_or_percent(errors, surge, f"{path}.maxSurge")
    value_of = check.int_or_percent_value
    if value_of(unavailable) == 0 and value_of(surge) == 0:
        message = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid(f"{path}.maxUnavailable", unavailable, message))
    check.at_most_100_percent(errors, unavailable, f"{path}.maxUnavailable")


def validate_deployment_update(deployment: Obj, old: Obj) -> ErrorList:
    errors = validate_deployment(deployment, old)
    selector_is_immutable(errors, deployment, old)
    return errors


def selector_is_immutable(errors: ErrorList, obj: Obj, old: Obj) -> None:
    new = (obj.get("spec") or {}).get("selector")
    check.immutable(errors, new, (old.get("spec") or {}).get("selector"), "spec.selector")


def collision_count(errors: ErrorList, status: Obj, old: Obj) -> None:
    """``collisionCount`` never shrinks."""
    before, now = (old.get("status") or {}).get("collisionCount"), status.get("collisionCount")
    if before is not None and (now is None or now < before):
        errors.append(invalid("status.collisionCount", now or 0, "cannot be decremented"))


def validate_deployment_status_update(deployment: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status = deployment.get("status") or {}
    for field in (
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ):
        check.nonnegative(errors, status, field, "status")
    total = status.get("replicas") or 0
    for field in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        value = status.get(field) or 0
        if value > total:
            message = "cannot be greater than status.replicas"
            errors.append(invalid(f"status.{field}", value, message))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        message = "cannot be greater than readyReplicas"
        errors.append(invalid("status.availableReplicas", available, message))
    collision_count(errors, status, old)
    return errors


def validate_replica_set(replica_set: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = replica_set.get("spec") or {}
    check.nonnegative(errors, spec, "replicas", "spec")
    check.nonnegative(errors, spec, "minReadySeconds", "spec")
    validate_selector(errors, spec, "deployment")
    if validate_selected_template(errors, spec, old):
        only_restart_always(errors, spec.get("template") or {}, "spec.template", "ReplicaSet")
    return errors


def validate_replica_set_update(replica_set: Obj, old: Obj) -> ErrorList:
    errors = validate_replica_set(replica_set, old)
    selector_is_immutable(errors, replica_set, old)
    return errors


def validate_replica_set_status_update(replica_set: Obj) -> ErrorList:
    errors: ErrorList = []
    validate_replicas_status(errors, replica_set.get("status") or {}, "terminatingReplicas")
    return errors
