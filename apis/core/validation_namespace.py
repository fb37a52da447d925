"""Namespaces: finalizers and phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta.errors import add_all, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def finalizer_name(errors: ErrorList, name: str, path: str) -> None:
    messages = names.is_qualified_name(name)
    if messages:
        add_all(errors, path, name, messages)
    kube_finalizer_name(errors, name, path)


def kube_finalizer_name(errors: ErrorList, name: str, path: str) -> None:
    """validateKubeFinalizerName: without a slash it must be a standard one."""
    if "/" not in name and name not in STANDARD_FINALIZERS:
        message = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(invalid(path, name, message))


def kube_finalizers(errors: ErrorList, finalizers: Iterable[str]) -> None:
    """The rule that core kinds add to the general check of metadata.finalizers."""
    for i, name in enumerate(finalizers):
        kube_finalizer_name(errors, name, f"metadata.finalizers[{i}]")


def validate_namespace(namespace: Obj) -> ErrorList:
    errors: ErrorList = []
    for name in (namespace.get("spec") or {}).get("finalizers") or ():
        finalizer_name(errors, name, "spec.finalizers")
    return errors


def validate_namespace_status_update(namespace: Obj) -> ErrorList:
    deleting = bool((namespace.get("metadata") or {}).get("deletionTimestamp"))
    phase = (namespace.get("status") or {}).get("phase") or ""
    if not deleting and phase != "Active":
        message = "may only be 'Active' if `deletionTimestamp` is empty"
        return [invalid("status.Phase", phase, message)]
    if deleting and phase != "Terminating":
        message = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        return [invalid("status.Phase", phase, message)]
    return []


def validate_namespace_finalize_update(namespace: Obj) -> ErrorList:
    errors: ErrorList = []
    for i, name in enumerate((namespace.get("spec") or {}).get("finalizers") or ()):
        finalizer_name(errors, name, f"spec.finalizers[{i}]")
    return errors
