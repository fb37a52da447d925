"""apiVersion, kind and metadata of objects embedded in custom objects (schema/objectmeta)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import Path, invalid, required
from pilothouse.apimachinery.metavalidation import validate_object_meta
from pilothouse.apimachinery.names import is_dns1035_label
from pilothouse.apimachinery.schema import parse_api_version
from pilothouse.apiserver.apiextensions.pruning import EMBEDDED
from pilothouse.apiserver.request.info import path_segment_errors

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_Schema = dict[str, Any]
KIND_TEXT = "may have mixed case, but should otherwise match: "


def has_embedded(schema: Any) -> bool:
    """Whether some object below the root is a resource of its own."""
    if not isinstance(schema, dict):
        return False
    below = [*(schema.get("properties") or {}).values()]
    below += [schema.get("items"), schema.get("additionalProperties")]
    return any(
        isinstance(field, dict) and (field.get(EMBEDDED) or has_embedded(field)) for field in below
    )


def embedded_errors(schema: Any, value: Any, path: Path) -> ErrorList:
    errors: ErrorList = []
    if not isinstance(schema, dict):
        return errors
    if isinstance(value, dict):
        if schema.get(EMBEDDED):
            errors += _resource_errors(value, path)
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, item in value.items():
            if key in properties:
                errors += embedded_errors(properties[key], item, path.child(key))
            elif additional is not None:
                errors += embedded_errors(additional, item, path.key(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            errors += embedded_errors(schema.get("items"), item, path.index(index))
    return errors


def _name_errors(name: str, prefix: bool) -> list[str]:
    return path_segment_errors(name)


def _resource_errors(value: Obj, path: Path) -> ErrorList:
    errors: ErrorList = [
        required(path.child(key)) for key in ("apiVersion", "kind") if key not in value
    ]
    for key in ("apiVersion", "kind"):
        if key not in value:
            continue
        found, where = value[key], path.child(key)
        if not isinstance(found, str):
            errors.append(invalid(where, found, "must be a string"))
        elif not found:
            errors.append(invalid(where, found, "must not be empty"))
        elif key == "apiVersion":
            try:
                parse_api_version(found)
            except ValueError as error:
                errors.append(invalid(where, found, str(error)))
        else:
            messages = is_dns1035_label(found.lower())
            if messages:
                errors.append(invalid(where, found, KIND_TEXT + ",".join(messages)))
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        named = metadata if metadata.get("name") else {**metadata, "name": "fakename"}
        errors += validate_object_meta(
            named,
            namespaced=bool(metadata.get("namespace")),
            name_errors=_name_errors,
            path=path.child("metadata"),
        )
    return errors
