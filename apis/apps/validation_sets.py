"""StatefulSets, DaemonSets and ControllerRevisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apis.apps.validation import (
    collision_count,
    selector_is_immutable,
    validate_selected_template,
)
from pilothouse.apis.core.validation_pod_spec import only_restart_always
from pilothouse.apis.core.validation_pvc import validate_claim_spec
from pilothouse.apis.core.validation_template import (
    SELECTOR_MISMATCH,
    template_options,
    validate_pod_template_spec,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_RETENTION = ("Retain", "Delete")


def validate_stateful_set(stateful_set: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = stateful_set.get("spec") or {}
    policy = spec.get("podManagementPolicy")
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        message = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid("spec.podManagementPolicy", policy, message))
    _stateful_update_strategy(errors, spec.get("updateStrategy") or {})
    retention = spec.get("persistentVolumeClaimRetentionPolicy")
    if retention is not None:
        for field in ("whenDeleted", "whenScaled"):
            if retention.get(field) not in _RETENTION:
                at = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
                errors.append(not_supported(at, retention.get(field) or "", _RETENTION))
    if old is None:
        for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            at = f"spec.volumeClaimTemplates[{i}].spec"
            validate_claim_spec(errors, claim.get("spec") or {}, at)
    check.nonnegative(errors, spec, "replicas", "spec")
    check.nonnegative(errors, spec, "minReadySeconds", "spec")
    if spec.get("ordinals") is not None:
        start = spec["ordinals"].get("start") or 0
        if start < 0:
            message = "must be greater than or equal to 0"
            errors.append(invalid("spec.ordinals.start", start, message))
    if old is None and spec.get("serviceName"):
        check.dns_label(errors, spec["serviceName"], "spec.serviceName")
    _stateful_selector(errors, spec)
    _stateful_template(errors, spec, old)
    return errors


def _stateful_selector(errors: ErrorList, spec: Obj) -> None:
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
        return
    check.label_selector(errors, selector, "spec.selector")
    if check.selector_is_empty(selector):
        message = "empty selector is invalid for statefulset"
        errors.append(invalid("spec.selector", selector, message))


def _stateful_template(errors: ErrorList, spec: Obj, old: Obj | None) -> None:
    """The template as pods will have it: with a volume for each claim."""
    template = spec.get("template") or {}
    claims = [
        (c.get("metadata") or {}).get("name") or "" for c in spec.get("volumeClaimTemplates") or ()
    ]
    pod_spec = dict(template.get("spec") or {})
    pod_spec.pop("subdomain", None)
    pod_spec.pop("hostname", None)
    if claims:
        own = [v for v in pod_spec.get("volumes") or () if v.get("name") not in claims]
        made = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in claims]
        pod_spec["volumes"] = [*made, *own]
    checked = {**spec, "template": {**template, "spec": pod_spec}}
    validate_selected_template(errors, checked, old, detail="")
    only_restart_always(errors, template, "spec.template", "StatefulSet")


def _stateful_update_strategy(errors: ErrorList, strategy: Obj) -> None:
    path, kind, rolling = "spec.updateStrategy", strategy.get("type"), strategy.get("rollingUpdate")
    if not kind:
        errors.append(required(path))
    elif kind == "OnDelete":
        if rolling is not None:
            message = "only allowed for updateStrategy 'RollingUpdate'"
            errors.append(invalid(f"{path}.rollingUpdate", rolling, message))
    elif kind == "RollingUpdate":
        if rolling is not None:
            check.nonnegative(errors, rolling, "partition", f"{path}.rollingUpdate")
            unavailable = rolling.get("maxUnavailable")
            if unavailable is not None:
                at = f"{path}.rollingUpdate.maxUnavailable"
                check.int_or_percent(errors, unavailable, at)
                if check.int_or_percent_value(unavailable) == 0:
                    errors.append(invalid(at, unavailable, "cannot be 0"))
                check.at_most_100_percent(errors, unavailable, at)
    else:
        shown = {"Type": kind, "RollingUpdate": rolling}
        errors.append(invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'"))


def validate_stateful_set_update(stateful_set: Obj, old: Obj) -> ErrorList:
    errors = validate_stateful_set(stateful_set, old)
    spec, before = stateful_set.get("spec") or {}, old.get("spec") or {}
    for field in ("selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"):
        check.immutable(errors, spec.get(field), before.get(field), f"spec.{field}")
    return errors


def validate_stateful_set_status_update(stateful_set: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status = stateful_set.get("status") or {}
    counts = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    for field in ("replicas", *counts, "observedGeneration", "collisionCount"):
        check.nonnegative(errors, status, field, "status")
    total = status.get("replicas") or 0
    for field in counts:
        value = status.get(field) or 0
        if value > total:
            message = "cannot be greater than status.replicas"
            errors.append(invalid(f"status.{field}", value, message))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        message = "cannot be greater than status.readyReplicas"
        errors.append(invalid("status.availableReplicas", available, message))
    collision_count(errors, status, old)
    return errors


def validate_daemon_set(daemon_set: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = daemon_set.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    check.label_selector(errors, selector, "spec.selector")
    labels = (template.get("metadata") or {}).get("labels") or {}
    try:
        matches = selector_from_label_selector(selector).matches(labels)
    except ValueError:
        matches = True
    if not matches:
        errors.append(invalid("spec.template.metadata.labels", labels, SELECTOR_MISMATCH))
    if selector is not None and check.selector_is_empty(selector):
        message = "empty selector is invalid for daemonset"
        errors.append(invalid("spec.selector", selector, message))
    old_template = None if old is None else (old.get("spec") or {}).get("template") or {}
    validate_pod_template_spec(errors, template, "spec.template", template_options(old_template))
    only_restart_always(errors, template, "spec.template", "DaemonSet")
    check.nonnegative(errors, spec, "minReadySeconds", "spec")
    _daemon_update_strategy(errors, spec.get("updateStrategy") or {})
    check.nonnegative(errors, spec, "revisionHistoryLimit", "spec")
    return errors


def _daemon_update_strategy(errors: ErrorList, strategy: Obj) -> None:
    path, kind, rolling = "spec.updateStrategy", strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        shown = {"Type": kind or "", "RollingUpdate": rolling}
        errors.append(not_supported(path, shown, ("RollingUpdate", "OnDelete")))
        return
    path = f"{path}.rollingUpdate"
    if rolling is None:
        errors.append(required(path))
        return
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    for value, field in ((unavailable, "maxUnavailable"), (surge, "maxSurge")):
        check.int_or_percent(errors, value, f"{path}.{field}")
    for value, field in ((unavailable, "maxUnavailable"), (surge, "maxSurge")):
        check.at_most_100_percent(errors, value, f"{path}.{field}")
    has_unavailable = check.int_or_percent_value(unavailable) != 0
    has_surge = check.int_or_percent_value(surge) != 0
    if has_unavailable and has_surge:
        message = "may not be set when maxUnavailable is non-zero"
        errors.append(invalid(f"{path}.maxSurge", surge, message))
    elif not has_unavailable and not has_surge:
        message = "cannot be 0 when maxSurge is 0"
        errors.append(required(f"{path}.maxUnavailable", message))


def validate_daemon_set_update(daemon_set: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    selector_is_immutable(errors, daemon_set, old)
    return errors + validate_daemon_set(daemon_set, old)


def validate_daemon_set_status_update(daemon_set: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status = daemon_set.get("status") or {}
    for field in (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ):
        check.nonnegative(errors, status, field, "status")
    collision_count(errors, status, old)
    return errors


def validate_controller_revision(revision: Obj, *, new: bool) -> ErrorList:
    errors: ErrorList = []
    check.nonnegative(errors, revision, "revision", "")
    if new:
        data = revision.get("data")
        if data is None:
            errors.append(required("data", "data is mandatory"))
        elif not isinstance(data, dict):
            errors.append(required("data", "data must be a valid JSON object"))
    return errors


def validate_controller_revision_update(revision: Obj, old: Obj) -> ErrorList:
    errors = validate_controller_revision(revision, new=False)
    if revision.get("data") != old.get("data"):
        errors.append(invalid("data", revision.get("data"), "field is immutable"))
    return errors
