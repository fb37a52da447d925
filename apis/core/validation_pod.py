"""Pods: create, update, binding, ephemeral containers, log options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.core.pod_helpers import MIRROR_ANNOTATION, visit_containers
from pilothouse.apis.core.spec_diff import go_diff
from pilothouse.apis.core.validation_container import image_whitespace
from pilothouse.apis.core.validation_pod_annotations import (
    annotations_match_fields,
    has_invalid_deletion_cost,
    validate_pod_annotation_updates,
    validate_pod_annotations,
)
from pilothouse.apis.core.validation_pod_spec import NEW_POD, PodOptions, validate_pod_spec
from pilothouse.apis.core.validation_scheduling import (
    node_affinity_mutation,
    node_selector_mutation,
    only_added_tolerations,
)
from pilothouse.apis.core.validation_security import sysctl_needs_own_namespace
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    NOT_NEGATIVE,
    add_all,
    forbidden,
    inclusive_range,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MAX_INT32 = 2147483647


def options_for(old: Obj | None) -> PodOptions:
    """GetValidationOptionsFromPodSpecAndMeta: what ``old`` already has may stay."""
    if old is None:
        return NEW_POD
    spec = old.get("spec") or {}
    context = spec.get("securityContext") or {}
    return PodOptions(
        is_pod=True,
        allow_invalid_deletion_cost=has_invalid_deletion_cost(_annotations(old)),
        allow_invalid_selector_values=_has_invalid_selector_values(spec.get("affinity")),
        allow_invalid_spread_selector=any(
            _selector_is_invalid(c.get("labelSelector"))
            for c in spec.get("topologySpreadConstraints") or ()
        ),
        allow_non_local_token_path=_has_non_local_token_path(spec),
        allow_host_sysctls=any(
            sysctl_needs_own_namespace(s.get("name") or "", spec)
            for s in context.get("sysctls") or ()
        ),
        allow_sys_admin=any(_is_sys_admin(c) for c, _ in visit_containers(spec)),
        allow_restart_container_for_init=any(
            policy.get("restartPolicy") == "RestartContainer"
            for container in spec.get("initContainers") or ()
            if container.get("restartPolicy") != "Always"
            for policy in container.get("resizePolicy") or ()
        ),
    )


def _annotations(pod: Obj) -> dict[str, str]:
    return (pod.get("metadata") or {}).get("annotations") or {}


def _selector_is_invalid(selector: Obj | None) -> bool:
    errors: ErrorList = []
    check.label_selector(errors, selector, "")
    return bool(errors)


def _has_invalid_selector_values(affinity: Obj | None) -> bool:
    """Any In/NotIn value in affinity terms that is no label value."""
    stack: list[Any] = [affinity]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "operator" in value and any(
                names.is_valid_label_value(v) for v in value.get("values") or ()
            ):
                return True
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return False


def _has_non_local_token_path(spec: Obj) -> bool:
    return any(
        (path := (source.get("serviceAccountToken") or {}).get("path") or "").startswith("/")
        or ".." in path.split("/")
        or path.startswith("..")
        for volume in spec.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    )


def _is_sys_admin(container: Obj) -> bool:
    context = container.get("securityContext") or {}
    added = (context.get("capabilities") or {}).get("add") or ()
    return not context.get("allowPrivilegeEscalation") and "CAP_SYS_ADMIN" in added


def metadata_and_spec(errors: ErrorList, pod: Obj, options: PodOptions) -> None:
    """What creates and all updates check (validatePodMetadataAndSpec)."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations = metadata.get("annotations")
    if annotations:
        validate_pod_annotations(
            errors,
            annotations,
            spec,
            "metadata.annotations",
            allow_invalid_deletion_cost=options.allow_invalid_deletion_cost,
        )
    validate_pod_spec(errors, spec, "spec", metadata=metadata, options=options)
    if not spec.get("serviceAccountName"):
        for i, volume in enumerate(spec.get("volumes") or ()):
            for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if source.get("serviceAccountToken") is not None:
                    message = "must not be specified when serviceAccountName is not set"
                    at = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                    errors.append(forbidden(at, message))
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        errors.append(invalid("spec.terminationGracePeriodSeconds", grace, NOT_NEGATIVE))
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or ()):
            image_whitespace(errors, container, f"spec.{field}[{i}]")


def validate_pod_create(pod: Obj) -> ErrorList:
    errors: ErrorList = []
    metadata_and_spec(errors, pod, NEW_POD)
    spec = pod.get("spec") or {}
    if spec.get("ephemeralContainers"):
        errors.append(forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        message = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden("spec.nodeName", message))
    annotations = _annotations(pod)
    if annotations:
        annotations_match_fields(errors, annotations, spec, "spec")
    return errors


def validate_pod_update(pod: Obj, old: Obj) -> ErrorList:
    """ValidatePodUpdate: only images, deadlines, tolerations and gates may change."""
    errors: ErrorList = []
    options = options_for(old)
    metadata_and_spec(errors, pod, options)
    validate_pod_annotation_updates(
        errors, _annotations(pod), _annotations(old), "metadata.annotations"
    )
    new_spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    for field in ("containers", "initContainers"):
        if not _container_images(errors, new_spec, old_spec, field):
            return errors
    if not _active_deadline(errors, new_spec, old_spec):
        return errors
    new_tolerations = new_spec.get("tolerations") or []
    old_tolerations = old_spec.get("tolerations") or []
    if new_tolerations != old_tolerations:
        only_added_tolerations(errors, new_tolerations, old_tolerations, "spec.tolerations")
    _only_deleted_gates(errors, new_spec, old_spec)
    if not semantic_equal(new_spec, old_spec):
        _unchangeable_fields(errors, new_spec, old_spec)
    return errors


def _container_images(errors: ErrorList, new: Obj, old: Obj, field: str) -> bool:
    """ValidateContainerUpdates; False stops the validation."""
    containers = new.get(field) or ()
    if len(containers) != len(old.get(field) or ()):
        message = "pod updates may not add or remove containers"
        errors.append(forbidden(f"spec.{field}", message))
        return False
    for i, container in enumerate(containers):
        if not container.get("image"):
            errors.append(required(f"spec.{field}[{i}].image"))
        image_whitespace(errors, container, f"spec.{field}[{i}]")
    return True


def _active_deadline(errors: ErrorList, new: Obj, old: Obj) -> bool:
    path = "spec.activeDeadlineSeconds"
    value, before = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if value is None:
        if before is not None:
            message = "must not update from a positive integer to nil value"
            errors.append(invalid(path, None, message))
        return True
    if not 0 <= value <= _MAX_INT32:
        errors.append(invalid(path, value, inclusive_range(0, _MAX_INT32)))
        return False
    if before is not None and before < value:
        message = "must be less than or equal to previous value"
        errors.append(invalid(path, value, message))
        return False
    return True


def _only_deleted_gates(errors: ErrorList, new: Obj, old: Obj) -> None:
    known = {g.get("name") for g in old.get("schedulingGates") or ()}
    for i, gate in enumerate(new.get("schedulingGates") or ()):
        if gate.get("name") not in known:
            message = (
                f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            )
            errors.append(forbidden(f"spec.schedulingGates[{i}].name", message))


def _unchangeable_fields(errors: ErrorList, new_spec: Obj, old_spec: Obj) -> None:
    munged = copy_object(new_spec)
    for field in ("containers", "initContainers"):
        for container, before in zip(
            munged.get(field) or (), old_spec.get(field) or (), strict=True
        ):
            _take(container, before, "image")
    for field in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        _take(munged, old_spec, field)
    old_grace = old_spec.get("terminationGracePeriodSeconds")
    if (old_grace or 0) < 0 and munged.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = old_grace
    if old_spec.get("schedulingGates"):
        _gated_changes(errors, munged, old_spec)
    if not semantic_equal(munged, old_spec):
        message = f"pod updates may not change fields other than {_UPDATABLE}\n"
        errors.append(forbidden("spec", message + go_diff(old_spec, munged)))


def _take(target: Obj, source: Obj, field: str) -> None:
    if source.get(field) is None:
        target.pop(field, None)
    else:
        target[field] = source[field]


def _gated_changes(errors: ErrorList, munged: Obj, old_spec: Obj) -> None:
    """A gated pod's node selector and affinity may become narrower."""
    new_selector = munged.get("nodeSelector") or {}
    old_selector = old_spec.get("nodeSelector") or {}
    if new_selector != old_selector:
        node_selector_mutation(errors, new_selector, old_selector, "spec.nodeSelector")
        _take(munged, old_spec, "nodeSelector")
    new_affinity = (munged.get("affinity") or {}).get("nodeAffinity")
    old_affinity = (old_spec.get("affinity") or {}).get("nodeAffinity")
    if semantic_equal(new_affinity, old_affinity):
        return
    node_affinity_mutation(errors, new_affinity, old_affinity, "spec.affinity.nodeAffinity")
    affinity = dict(munged.get("affinity") or {})
    _take(affinity, old_spec.get("affinity") or {}, "nodeAffinity")
    munged["affinity"] = affinity


def validate_ephemeral_containers_update(pod: Obj, old: Obj) -> ErrorList:
    """ValidatePodEphemeralContainersUpdate: may be added, never changed or removed."""
    errors: ErrorList = []
    if MIRROR_ANNOTATION in _annotations(old):
        return [forbidden("", "static pods do not support ephemeral containers")]
    metadata_and_spec(errors, pod, options_for(old))
    validate_pod_annotation_updates(
        errors, _annotations(pod), _annotations(old), "metadata.annotations"
    )
    path = "spec.ephemeralContainers"
    new = {c.get("name"): c for c in (pod.get("spec") or {}).get("ephemeralContainers") or ()}
    for before in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = before.get("name")
        if name not in new:
            message = f'existing ephemeral containers "{name}" may not be removed\n'
            errors.append(forbidden(path, message))
        elif not semantic_equal(before, new[name]):
            message = f'existing ephemeral containers "{name}" may not be changed\n'
            errors.append(forbidden(path, message + go_diff(before, new[name])))
    return errors


def validate_binding(binding: Obj) -> ErrorList:
    """ValidatePodBinding."""
    errors: ErrorList = []
    target = binding.get("target") or {}
    kind, name = target.get("kind") or "", target.get("name") or ""
    if kind not in ("", "Node"):
        errors.append(not_supported("target.kind", kind, ("Node", "<empty>")))
    if not name:
        errors.append(required("target.name"))
    elif kind in ("", "Node"):
        messages = names.is_dns1123_subdomain(name)
        if messages:
            add_all(errors, "target.name", name, messages)
    return errors


def validate_log_options(options: Obj) -> ErrorList:
    """ValidatePodLogOptions (PodLogsQuerySplitStreams is off)."""
    errors: ErrorList = []
    tail, limit = options.get("tailLines"), options.get("limitBytes")
    since = options.get("sinceSeconds")
    if tail is not None and tail < 0:
        errors.append(invalid("tailLines", tail, NOT_NEGATIVE))
    if limit is not None and limit < 1:
        errors.append(invalid("limitBytes", limit, "must be greater than 0"))
    if since is not None and options.get("sinceTime") is not None:
        message = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        errors.append(forbidden("[]", message))
    elif since is not None and since < 1:
        errors.append(invalid("sinceSeconds", since, "must be greater than 0"))
    if options.get("stream") is not None:
        errors.append(forbidden("stream", "may not be specified"))
    return errors
