"""RuntimeClasses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_resources import container_requirements
from pilothouse.apis.core.validation_scheduling import validate_tolerations
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import duplicate, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


def validate_runtime_class(runtime_class: Obj) -> ErrorList:
    errors: ErrorList = []
    handler = runtime_class.get("handler") or ""
    if not handler:
        errors.append(required("handler"))
    else:
        check.dns_label(errors, handler, "handler")
    overhead = runtime_class.get("overhead")
    if overhead is not None:
        limits = {"limits": overhead.get("podFixed") or {}}
        container_requirements(errors, limits, frozenset(), "overhead")
    scheduling = runtime_class.get("scheduling")
    if scheduling is not None:
        selector = scheduling.get("nodeSelector")
        check.labels(errors, selector, "scheduling.nodeSelector")
        _tolerations(errors, scheduling.get("tolerations") or ())
    return errors


def _tolerations(errors: ErrorList, tolerations: list[Obj] | tuple[()]) -> None:
    validate_tolerations(errors, tolerations, "scheduling.tolerations")
    seen: set[tuple[str, ...]] = set()
    for i, toleration in enumerate(tolerations):
        key = tuple(toleration.get(f) or "" for f in ("key", "operator", "value", "effect"))
        if key in seen:
            errors.append(duplicate(f"scheduling.tolerations[{i}]", toleration))
        seen.add(key)


def validate_runtime_class_update(runtime_class: Obj, old: Obj) -> ErrorList:
    errors = validate_runtime_class(runtime_class)
    check.immutable(errors, runtime_class.get("handler"), old.get("handler"), "handler")
    return errors
