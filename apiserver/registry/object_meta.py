"""Validation of ``metadata``, the same for every kind (apimachinery pkg/api/validation).

Called by ``before.py`` around a strategy's own validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apimachinery.schema import parse_api_version
from pilothouse.apis.meta.errors import add_all, forbidden, invalid, not_supported, required
from pilothouse.apis.meta.validation import annotations, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.strategy import Strategy

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
_NEGATIVE = "must be greater than or equal to 0"


def validate_object_meta(strategy: Strategy, metadata: Obj) -> ErrorList:
    """Metadata of an object that is to be created or has been changed."""
    errors: ErrorList = []
    generate_name = metadata.get("generateName")
    if generate_name:
        path = "metadata.generateName"
        add_all(errors, path, generate_name, strategy.name_errors(generate_name, True))
    name = metadata.get("name")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        add_all(errors, "metadata.name", name, strategy.name_errors(name, False))
    namespace = metadata.get("namespace")
    if strategy.namespaced:
        if not namespace:
            errors.append(required("metadata.namespace"))
        else:
            messages = names.is_dns1123_label(namespace)
            add_all(errors, "metadata.namespace", namespace, messages)
    elif namespace:
        errors.append(forbidden("metadata.namespace", "not allowed on this type"))
    _common(errors, metadata)
    return errors


def _common(errors: ErrorList, metadata: Obj) -> None:
    if (metadata.get("generation") or 0) < 0:
        errors.append(invalid("metadata.generation", metadata["generation"], _NEGATIVE))
    if metadata.get("labels"):
        labels(errors, metadata["labels"], "metadata.labels")
    if metadata.get("annotations"):
        annotations(errors, metadata["annotations"], "metadata.annotations")
    if metadata.get("ownerReferences"):
        _owner_references(errors, metadata["ownerReferences"])
    if metadata.get("finalizers"):
        _finalizers(errors, metadata["finalizers"])
    for index, entry in enumerate(metadata.get("managedFields") or ()):
        _managed_fields(errors, entry, f"metadata.managedFields[{index}]")


def _owner_references(errors: ErrorList, references: Sequence[Obj]) -> None:
    path = "metadata.ownerReferences"
    controller = ""
    for index, reference in enumerate(references):
        _owner_reference(errors, reference, f"{path}[{index}]")
        if reference.get("controller"):
            current = f"{reference.get('kind', '')}/{reference.get('name', '')}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in '
                    f"references for {controller} and {current}"
                )
                errors.append(invalid(path, list(references), detail))
            controller = controller or current


def _owner_reference(errors: ErrorList, reference: Obj, path: str) -> None:
    api_version = reference.get("apiVersion") or ""
    if not api_version:
        errors.append(required(f"{path}.apiVersion", "must not be empty"))
    else:
        try:
            version = parse_api_version(api_version).version
        except ValueError:
            version = ""
        if not version:
            detail = "must be <group>/<version> or <version>"
            errors.append(invalid(f"{path}.apiVersion", api_version, detail))
    errors.extend(
        required(f"{path}.{key}", "must not be empty")
        for key in ("kind", "name", "uid")
        if not reference.get(key)
    )
    if api_version == "v1" and reference.get("kind") == "Event":
        detail = "/v1, Kind=Event is disallowed from being an owner"
        errors.append(invalid(path, reference, detail))


def _finalizers(errors: ErrorList, finalizers: Sequence[str]) -> None:
    path = "metadata.finalizers"
    for finalizer in finalizers:
        add_all(errors, path, finalizer, names.is_qualified_name(finalizer))
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        detail = f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"
        errors.append(invalid(path, list(finalizers), detail))


def _managed_fields(errors: ErrorList, entry: Obj, path: str) -> None:
    operation = entry.get("operation")
    if not operation:
        errors.append(required(f"{path}.operation", "must not be empty"))
    elif operation not in ("Apply", "Update"):
        errors.append(not_supported(f"{path}.operation", operation, ("Apply", "Update")))
    kind = entry.get("fieldsType")
    if kind and kind != "FieldsV1":
        errors.append(invalid(f"{path}.fieldsType", kind, "must be `FieldsV1`"))
    manager = entry.get("manager") or ""
    errors.extend(validate_field_manager(manager, f"{path}.manager"))
    if len(entry.get("subresource") or "") > 256:
        from pilothouse.apis.meta.errors import too_long

        errors.append(too_long(f"{path}.subresource", 256))


def validate_field_manager(manager: str, path: str) -> ErrorList:
    errors: ErrorList = []
    if len(manager.encode()) > 128:
        from pilothouse.apis.meta.errors import too_long

        errors.append(too_long(path, 128))
    for index, char in enumerate(manager):
        if not char.isprintable():
            detail = f"invalid character U+{ord(char):04X} (at position {index})"
            errors.append(invalid(path, manager, detail))
    return errors


def validate_object_meta_update(metadata: Obj, old: Obj) -> ErrorList:
    """Beyond :func:`validate_object_meta`: what must not change."""
    errors: ErrorList = []
    if old.get("deletionTimestamp"):
        extra = sorted(set(metadata.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            listed = ", ".join(f'"{name}"' for name in extra)
            detail = (
                "no new finalizers can be added if the object is being deleted, found new "
                f"finalizers []string{{{listed}}}"
            )
            errors.append(forbidden("metadata.finalizers", detail))
    if not metadata.get("resourceVersion"):
        detail = "must be specified for an update"
        errors.append(invalid("metadata.resourceVersion", "", detail))
    generation = metadata.get("generation") or 0
    if generation < (old.get("generation") or 0):
        errors.append(invalid("metadata.generation", generation, "must not be decremented"))
    for key in _IMMUTABLE:
        if (metadata.get(key) or "") != (old.get(key) or ""):
            errors.append(_immutable(key, metadata.get(key)))
    key = "deletionGracePeriodSeconds"
    if metadata.get(key) != old.get(key):
        errors.append(_immutable(key, metadata.get(key)))
    return errors


def _immutable(key: str, value: Any) -> Any:
    return invalid(f"metadata.{key}", "" if value is None else value, "field is immutable")
