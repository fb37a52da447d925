"""Pod templates and ReplicationControllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_pod_annotations import (
    annotations_match_fields,
    validate_pod_annotations,
)
from pilothouse.apis.core.validation_pod_spec import (
    NEW_TEMPLATE,
    PodOptions,
    only_restart_always,
    validate_pod_spec,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import forbidden, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

SELECTOR_MISMATCH = "`selector` does not match template `labels`"


def template_options(old_template: Obj | None) -> PodOptions:
    """GetValidationOptionsFromPodTemplate."""
    if old_template is None:
        return NEW_TEMPLATE
    from dataclasses import replace

    from pilothouse.apis.core.validation_pod import options_for

    return replace(options_for(old_template), is_pod=False)


def validate_pod_template_spec(
    errors: ErrorList, template: Obj, path: str, options: PodOptions = NEW_TEMPLATE
) -> None:
    """ValidatePodTemplateSpec; errors of labels and annotations lack ``metadata`` as upstream's."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    labels, annotations = metadata.get("labels"), metadata.get("annotations")
    if labels:
        check.labels(errors, labels, f"{path}.labels")
    if annotations:
        check.annotation_map(errors, annotations, f"{path}.annotations")
        validate_pod_annotations(
            errors,
            annotations,
            spec,
            f"{path}.annotations",
            allow_invalid_deletion_cost=options.allow_invalid_deletion_cost,
        )
    validate_pod_spec(errors, spec, f"{path}.spec", options=options)
    if annotations:
        annotations_match_fields(errors, annotations, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        message = "ephemeral containers not allowed in pod template"
        errors.append(forbidden(f"{path}.spec.ephemeralContainers", message))


def validate_pod_template(template: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    options = template_options(None if old is None else old.get("template") or {})
    validate_pod_template_spec(errors, template.get("template") or {}, "template", options)
    return errors


def validate_replication_controller(controller: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = controller.get("spec") or {}
    check.nonnegative(errors, spec, "minReadySeconds", "spec")
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        errors.append(required("spec.selector"))
    if spec.get("replicas") is None:
        errors.append(required("spec.replicas"))
    else:
        check.nonnegative(errors, spec, "replicas", "spec")
    if template is None:
        errors.append(required("spec.template"))
        return errors
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and any(labels.get(k) != v for k, v in selector.items()):
        at = "spec.template.metadata.labels"
        errors.append(invalid(at, labels, SELECTOR_MISMATCH))
    old_template = None if old is None else (old.get("spec") or {}).get("template") or {}
    validate_pod_template_spec(errors, template, "spec.template", template_options(old_template))
    only_restart_always(errors, template, "spec.template", "ReplicationController")
    return errors


def validate_replicas_status(errors: ErrorList, status: Obj, *more: str) -> None:
    """Numbers of a ReplicaSet's or ReplicationController's status."""
    counts = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    for field in ("replicas", *counts, "observedGeneration", *more):
        check.nonnegative(errors, status, field, "status")
    total = status.get("replicas") or 0
    for field in counts:
        value = status.get(field) or 0
        if value > total:
            message = "cannot be greater than status.replicas"
            errors.append(invalid(f"status.{field}", value, message))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        message = "cannot be greater than readyReplicas"
        errors.append(invalid("status.availableReplicas", available, message))
