"""From what a mutation's expression gave to the changed object (mutating/patch); pure.

Both kinds of patch return a new object and leave their input alone. What they return has yet to
be fitted to its type and defaulted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.managedfields import typed
from pilothouse.apimachinery.managedfields.typed import TypedError
from pilothouse.apimachinery.managedfields.validate import validate
from pilothouse.apimachinery.patch import json_patch
from pilothouse.apimachinery.patch.errors import PatchError
from pilothouse.apimachinery.typeschema import ANY
from pilothouse.cel.values import Optional, TypedObject, Uint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

_NO_JSON = "JSONPath valueExpression evaluated to a type that could not marshal to JSON"


_NULL_INSTEAD = {
    "object": "map, got &{NULL_VALUE}",
    "map": "map, got &{NULL_VALUE}",
    "list": "list, got &{NULL_VALUE}",
    "boolean": "boolean, got &{NULL_VALUE}",
    "string": "string, got &value.valueUnstructured{Value:0}",
    "integer": "numeric (int or float), got structpb.NullValue",
    "number": "numeric (int or float), got structpb.NullValue",
}
"""What Go says about CEL's null in a place of these kinds."""


class MutationError(Exception):
    """A patch that cannot be applied; the policy's failurePolicy says what that means."""


def apply_configuration(obj: Obj, configuration: Any, schema: TypeSchema) -> Obj:
    """``obj`` with the ``Object{...}`` merged into it as server-side apply merges.

    :raises MutationError: it doesn't fit, or would replace something atomic.
    """
    problems = _mistyped(configuration, ["Object"])
    if problems:
        raise MutationError("type mismatch: " + "\n".join(problems))
    patch = {
        **as_json(configuration),
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
    }
    try:
        _complete(patch, schema, "")
        validate(patch, schema)
    except TypedError as error:
        raise MutationError(
            f"error applying patch: failed to convert patch object to typed object: {error}"
        ) from error
    atomic = _atomic(patch, schema, "")
    if atomic:
        raise MutationError(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps "
            f"or structs: {', '.join(atomic)}"
        )
    try:
        merged: Obj = typed.merge(obj, patch, schema)
    except TypedError as error:
        raise MutationError(f"error applying patch: failed to merge patch: {error}") from error
    return merged


def _complete(value: Any, schema: TypeSchema, path: str) -> None:
    """Empty text for required key fields that list items lack: the published schemas, which
    upstream merges by, have that default. :raises TypedError: a null, which is no value."""
    if value is None:
        wanted = _NULL_INSTEAD.get(schema.kind)
        if wanted is not None:
            raise TypedError(f"{path}: expected {wanted}")
    elif type(value) is dict:
        for key, member in value.items():
            _complete(member, typed.child_schema(schema, key), f"{path}.{key}")
    elif type(value) is list and schema.kind == "list":
        element = schema.element or ANY
        for i, item in enumerate(value):
            if type(item) is dict and schema.list_type == "map":
                _complete_keys(item, schema.map_keys, element)
            _complete(item, element, f"{path}[{i}]")


def _complete_keys(item: Obj, keys: Iterable[str], element: TypeSchema) -> None:
    for key in keys:
        field = element.fields.get(key)
        if key in element.required and field is not None and field.kind == "string":
            item.setdefault(key, "")


def _atomic(value: Any, schema: TypeSchema, path: str) -> list[str]:
    """Paths of the atomic containers that the patch sets."""
    found: list[str] = []
    if type(value) is dict:
        if schema.atomic or (schema.kind == "any" and schema.go_type):
            found.append(path)
        for key, member in value.items():
            if key in schema.fields:
                found += _atomic(member, schema.fields[key], f"{path}.{key}")
    elif type(value) is list and schema.kind in ("list", "any"):
        if schema.kind == "any" or schema.list_type == "atomic":
            found.append(path)
        for i, item in enumerate(value):
            found += _atomic(item, schema.element or ANY, f"{path}[{i}]")
    return found


def apply_json_patch(obj: Obj, operations: Any) -> Obj:
    """``obj`` after the JSONPatch operations; itself when one of them is a test that fails.

    :raises MutationError: an operation does not apply.
    """
    try:
        patched: Obj = json_patch.apply(obj, [_operation(each) for each in operations])
    except PatchError as error:
        if error.message.endswith("test failed"):
            return obj
        raise MutationError(f"JSON Patch: {error.message}") from error
    return patched


def _operation(patch: Any) -> Obj:
    operation: Obj = {"op": patch.get("op") or "", "path": patch.get("path") or ""}
    if patch.get("from"):
        operation["from"] = patch["from"]
    if "value" in patch:
        value = patch["value"]
        typed_object = isinstance(value, TypedObject)
        problems = _mistyped(value, [value.type_name]) if typed_object else []
        if problems:
            raise MutationError("type mismatch: " + "\n".join(problems))
        operation["value"] = as_json(value)
    return operation


def _mistyped(value: Any, path: list[str]) -> list[str]:
    """Objects must be called by their place: ``Object.spec.template{...}`` stands there only."""
    if isinstance(value, TypedObject):
        wanted = ".".join(path)
        found: list[str] = []
        if value.type_name != wanted:
            found.append(
                f'unexpected type name "{value.type_name}", expected "{wanted}", which matches '
                "field name path from root Object type"
            )
        return found + _mistyped_all((child, [*path, key]) for key, child in value.items())
    if isinstance(value, dict):
        return _mistyped_all((child, path) for child in value.values())
    if isinstance(value, (list, tuple)):
        return _mistyped_all((child, path) for child in value)
    return []


def _mistyped_all(children: Iterable[tuple[Any, list[str]]]) -> list[str]:
    return [problem for child, path in children for problem in _mistyped(child, path)]


def as_json(value: Any) -> Any:
    """A CEL value as plain JSON. :raises MutationError: JSON has nothing for it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Uint):
        return int(value)
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, dict):
        return {_key(key): as_json(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, bytes):
        from base64 import b64encode

        return b64encode(value).decode()
    if isinstance(value, Optional):
        return as_json(value.value) if value.has_value else None
    raise MutationError(f"{_NO_JSON}: unsupported type {type(value).__name__}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise MutationError(f"map key {key!r} is not a string")
    return key
