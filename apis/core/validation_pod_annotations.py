"""Annotations of pods that mean something: mirror pods, deletion cost, old security profiles."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pilothouse.apis.core.pod_helpers import MIRROR_ANNOTATION, visit_containers
from pilothouse.apis.core.validation_paths import local_descending_path
from pilothouse.apis.core.validation_scheduling import validate_tolerations
from pilothouse.apis.meta.errors import forbidden, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

APP_ARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER_PREFIX = "container.seccomp.security.alpha.kubernetes.io/"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
TOLERATIONS = "scheduler.alpha.kubernetes.io/tolerations"
_COST = re.compile(r"-?(0|[1-9]\d*)|\+?0", re.ASCII)


def has_invalid_deletion_cost(annotations: Mapping[str, str]) -> bool:
    text = annotations.get(DELETION_COST)
    if text is None:
        return False
    return not _COST.fullmatch(text) or not -(1 << 31) <= int(text) < 1 << 31


def validate_pod_annotations(
    errors: ErrorList,
    annotations: Mapping[str, str],
    spec: Obj,
    path: str,
    *,
    allow_invalid_deletion_cost: bool = False,
) -> None:
    """ValidatePodSpecificAnnotations."""
    if MIRROR_ANNOTATION in annotations and not spec.get("nodeName"):
        message = "must set spec.nodeName if mirror pod annotation is set"
        value = annotations[MIRROR_ANNOTATION]
        errors.append(invalid(f"{path}[{MIRROR_ANNOTATION}]", value, message))
    if annotations.get(TOLERATIONS):
        _tolerations(errors, annotations[TOLERATIONS], path)
    if not allow_invalid_deletion_cost and has_invalid_deletion_cost(annotations):
        message = "must be a 32bit integer"
        errors.append(invalid(f"{path}[{DELETION_COST}]", annotations[DELETION_COST], message))
    for key, value in annotations.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER_PREFIX):
            _seccomp_value(errors, value, f"{path}.{key}")
        elif key.startswith(APP_ARMOR_PREFIX):
            _app_armor_value(errors, key, value, spec, path)


def _tolerations(errors: ErrorList, text: str, path: str) -> None:
    try:
        tolerations = json.loads(text)
    except ValueError as error:
        errors.append(invalid(path, TOLERATIONS, str(error)))
        return
    if isinstance(tolerations, list):
        listed = [t for t in tolerations if isinstance(t, dict)]
        validate_tolerations(errors, listed, f"{path}.{TOLERATIONS}")


def _seccomp_value(errors: ErrorList, value: str, path: str) -> None:
    if value in ("runtime/default", "docker/default", "unconfined"):
        return
    if value.startswith("localhost/"):
        local_descending_path(errors, value.removeprefix("localhost/"), path)
    else:
        errors.append(invalid(path, value, "must be a valid seccomp profile"))


def _app_armor_value(errors: ErrorList, key: str, value: str, spec: Obj, path: str) -> None:
    name = key.removeprefix(APP_ARMOR_PREFIX)
    if not any(c.get("name") == name for c, _ in visit_containers(spec)):
        errors.append(invalid(f"{path}[{key}]", name, "container not found"))
    if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
        message = f'invalid AppArmor profile name: "{value}"'
        errors.append(invalid(f"{path}[{key}]", value, message))


def validate_pod_annotation_updates(
    errors: ErrorList, new: Mapping[str, str], old: Mapping[str, str], path: str
) -> None:
    """AppArmor and mirror annotations are fixed (the first part of upstream's function)."""
    for key, value in old.items():
        if new.get(key) == value:
            continue
        if key.startswith(APP_ARMOR_PREFIX):
            message = "may not remove or update AppArmor annotations"
            errors.append(forbidden(f"{path}[{key}]", message))
        if key == MIRROR_ANNOTATION:
            message = "may not remove or update mirror pod annotation"
            errors.append(forbidden(f"{path}[{key}]", message))
    for key in new:
        if key in old:
            continue
        if key.startswith(APP_ARMOR_PREFIX):
            errors.append(forbidden(f"{path}[{key}]", "may not add AppArmor annotations"))
        if key == MIRROR_ANNOTATION:
            errors.append(forbidden(f"{path}[{key}]", "may not add mirror pod annotation"))


def annotations_match_fields(
    errors: ErrorList, annotations: Mapping[str, str], spec: Obj, path: str
) -> None:
    """Old seccomp and AppArmor annotations must agree with the fields, when both are set."""
    if not any(
        k == SECCOMP_POD or k.startswith((SECCOMP_CONTAINER_PREFIX, APP_ARMOR_PREFIX))
        for k in annotations
    ):
        return
    context = spec.get("securityContext") or {}
    pod_seccomp = context.get("seccompProfile")
    if pod_seccomp is not None and SECCOMP_POD in annotations:
        at = f"{path}.securityContext.seccompProfile"
        _match(errors, annotations[SECCOMP_POD], pod_seccomp, at, "seccomp")
    on_windows = (spec.get("os") or {}).get("name") == "windows"
    for container, at in visit_containers(spec, path):
        own = container.get("securityContext") or {}
        name = container.get("name") or ""
        seccomp = own.get("seccompProfile")
        key = SECCOMP_CONTAINER_PREFIX + name
        if seccomp is not None and key in annotations:
            profile_at = f"{at}.securityContext.seccompProfile"
            _match(errors, annotations[key], seccomp, profile_at, "seccomp")
        app_armor = own.get("appArmorProfile") or context.get("appArmorProfile")
        key = APP_ARMOR_PREFIX + name
        if app_armor is not None and key in annotations and not on_windows:
            profile_at = f"{at}.securityContext.appArmorProfile"
            _match(errors, annotations[key], app_armor, profile_at, "apparmor")


def _match(errors: ErrorList, annotation: str, profile: Obj, path: str, kind: str) -> None:
    profile_type = profile.get("type")
    defaults = ("runtime/default", "docker/default") if kind == "seccomp" else ("runtime/default",)
    if profile_type == "Unconfined":
        same = annotation == "unconfined"
    elif profile_type == "RuntimeDefault":
        same = annotation in defaults
    elif profile_type == "Localhost":
        same = annotation.startswith("localhost/")
    else:
        return
    if not same:
        message = f"{kind} type in annotation and field must match"
        errors.append(forbidden(f"{path}.type", message))
    elif profile_type == "Localhost" and annotation.removeprefix("localhost/") != profile.get(
        "localhostProfile"
    ):
        message = f"{kind} profile in annotation and field must match"
        errors.append(forbidden(f"{path}.localhostProfile", message))
