"""In-place resize of a pod's cpu and memory (the ``resize`` sub-resource)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.core.pod_helpers import MIRROR_ANNOTATION
from pilothouse.apis.core.qos import compute_pod_qos, pod_qos
from pilothouse.apis.core.resource_requests import is_restartable_init_container
from pilothouse.apis.core.validation_pod import metadata_and_spec, options_for
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import forbidden, invalid

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_FIELDS = ("containers", "initContainers")
_KINDS = ("requests", "limits")


def validate_pod_resize(pod: Obj, old: Obj) -> ErrorList:
    """ValidatePodResize."""
    if MIRROR_ANNOTATION in ((old.get("metadata") or {}).get("annotations") or {}):
        return [forbidden("", "static pods cannot be resized")]
    spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    if (old_spec.get("os") or {}).get("name") == "windows":
        return [forbidden("", "windows pods cannot be resized")]
    errors: ErrorList = []
    metadata_and_spec(errors, pod, options_for(old))
    if pod_qos(old) != compute_pod_qos(pod):
        shown = (pod.get("status") or {}).get("qosClass") or ""
        message = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid("spec", shown, message))
    if not _node_supports_resize(old):
        errors.append(forbidden("spec", "Pod running on node without support for resize"))
    munged = copy_object(spec)
    if _has_pod_level(spec) or _has_pod_level(old_spec):
        _pod_level(errors, spec, old_spec, munged)
    if not _same_containers(errors, spec, old_spec):
        return errors
    for field in ("initContainers", "containers"):
        for i, before in enumerate(old_spec.get(field) or ()):
            path = f"spec.{field}[{i}].resources"
            new = spec[field][i].get("resources") or {}
            _not_removed(errors, new, before.get("resources") or {}, path, "resource")
    _only_resources(errors, munged, old_spec)
    if not semantic_equal(spec.get("volumes"), old_spec.get("volumes")):
        message = (
            "volumes are immutable on resize when InPlacePodVerticalScalingMemoryBackedVolumes "
            "feature gate is disabled"
        )
        errors.append(forbidden("spec.volumes", message))
    if not errors and not semantic_equal(munged, old_spec):
        errors.append(forbidden("spec", "only cpu and memory resources are mutable"))
    return errors


def _node_supports_resize(old: Obj) -> bool:
    for status in (old.get("status") or {}).get("containerStatuses") or ():
        if (status.get("state") or {}).get("running") is not None:
            return status.get("resources") is not None
    return True


def _has_pod_level(spec: Obj) -> bool:
    resources = spec.get("resources") or {}
    return bool(resources.get("requests") or resources.get("limits"))


def _not_removed(errors: ErrorList, new: Obj, old: Obj, path: str, what: str) -> None:
    for kind in _KINDS:
        before, now = old.get(kind) or {}, new.get(kind) or {}
        if any(name not in now for name in before):
            message = f"{what} {kind} cannot be removed"
            errors.append(forbidden(f"{path}.{kind}", message))


def _pod_level(errors: ErrorList, spec: Obj, old_spec: Obj, munged: Obj) -> None:
    old, new = old_spec.get("resources"), spec.get("resources")
    if old is not None and new is None:
        errors.append(forbidden("spec.resources", "pod-level resources cannot be removed"))
        return
    if old is not None:
        _not_removed(errors, new or {}, old, "spec.resources", "pod-level resource")
    munged["resources"] = _with_old_cpu_and_memory(munged.get("resources") or {}, old or {})
    if not any(munged["resources"].values()):
        munged.pop("resources")
    if not semantic_equal(munged.get("resources"), old):
        message = "only cpu and memory resources are mutable at pod-level"
        errors.append(forbidden("spec", message))


def _with_old_cpu_and_memory(resources: Obj, old: Obj) -> Obj:
    """dropCPUMemoryUpdates: everything but cpu and memory stays as wanted."""
    result = dict(resources)
    for kind in _KINDS:
        before = old.get(kind) or {}
        kept = {k: v for k, v in (resources.get(kind) or {}).items() if k not in ("cpu", "memory")}
        kept.update({k: before[k] for k in ("cpu", "memory") if k in before})
        if kept:
            result[kind] = kept
        else:
            result.pop(kind, None)
    return result


def _same_containers(errors: ErrorList, spec: Obj, old_spec: Obj) -> bool:
    before = len(errors)
    for field in _FIELDS:
        new, old = spec.get(field) or (), old_spec.get(field) or ()
        if len(new) != len(old):
            message = f"{field} may not be added or removed on resize"
            errors.append(forbidden(f"spec.{field}", message))
            continue
        for i, (now, had) in enumerate(zip(new, old, strict=True)):
            if now.get("name") != had.get("name"):
                message = f"{field} may not be renamed or reordered on resize"
                errors.append(forbidden(f"spec.{field}[{i}].name", message))
    return len(errors) == before


def _only_resources(errors: ErrorList, munged: Obj, old_spec: Obj) -> None:
    for field in _FIELDS:
        for i, container in enumerate(munged.get(field) or ()):
            old = old_spec[field][i]
            changed = not semantic_equal(container, old)
            resources = _with_old_cpu_and_memory(
                container.get("resources") or {}, old.get("resources") or {}
            )
            container["resources"] = resources
            if not semantic_equal(container, old):
                _wrong_change(errors, field, i)
            if field == "initContainers" and changed:
                _init_container(errors, container, i)


def _wrong_change(errors: ErrorList, field: str, i: int) -> None:
    if field == "containers":
        errors.append(forbidden("spec", "only cpu and memory resources are mutable"))
    else:
        message = "only cpu and memory resources for init or sidecar containers are mutable"
        errors.append(forbidden(f"spec.initContainers[{i}]", message))


def _init_container(errors: ErrorList, container: Obj, i: int) -> None:
    if is_restartable_init_container(container):
        return
    for policy in container.get("resizePolicy") or ():
        if policy.get("restartPolicy") == "RestartContainer":
            message = (
                "non-sidecar init containers with a resize policy of RestartContainer cannot be "
                "resized"
            )
            errors.append(forbidden(f"spec.initContainers[{i}]", message))
