"""Defaults in CRD schemas must be valid and pruned (defaulting/validation.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.fieldpath import invalid
from pilothouse.apimachinery.object import copy_object
from pilothouse.apiserver.apiextensions.cel import compile_rules
from pilothouse.apiserver.apiextensions.embedded import embedded_errors
from pilothouse.apiserver.apiextensions.pruning import EMBEDDED, META_FIELDS, Pruner
from pilothouse.apiserver.apiextensions.value_checks import compile_check
from pilothouse.apiserver.apiextensions.value_errors import explain

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList, Path

_Schema = dict[str, Any]


def default_errors(
    schema: _Schema, path: Path, *, pruned: bool, root: bool = True, in_meta: bool = False
) -> ErrorList:
    errors: ErrorList = []
    embedded = root or bool(schema.get(EMBEDDED))
    if embedded:
        in_meta = False
    if schema.get("default") is not None:
        errors += _errors(schema, path.child("default"), pruned=pruned and not in_meta)
    items = schema.get("items")
    if isinstance(items, dict):
        errors += default_errors(
            items, path.child("items"), pruned=pruned, root=False, in_meta=in_meta
        )
    for key, field in (schema.get("properties") or {}).items():
        errors += default_errors(
            field,
            path.child("properties").key(key),
            pruned=pruned,
            root=False,
            in_meta=in_meta or (embedded and key in META_FIELDS),
        )
    return errors


def _errors(schema: _Schema, path: Path, *, pruned: bool) -> ErrorList:
    default = schema["default"]
    errors: ErrorList = []
    if pruned and unpruned(schema, default):
        errors.append(invalid(path, default, "must not have unknown fields"))
    try:
        Pruner().embedded(copy_object(default), schema, "", [])
    except StatusError as error:
        return [*errors, invalid(path, default, f"must result in valid metadata: {error}")]
    found = embedded_errors(schema, default, path)
    if not found:
        check = compile_check(schema)
        if check is not None and not check(default):
            found = explain(schema, default, str(path))
    if not found:
        rules = compile_rules(schema, root=bool(schema.get(EMBEDDED)))
        if rules is not None:
            broken = rules.errors(default, None, lambda: schema)
            found = [invalid(path, each.bad_value, each.detail) for each in broken]
    return errors + found


def unpruned(schema: _Schema, default: Any) -> bool:
    """Whether pruning would take something away from a default."""
    copy = copy_object(default)
    Pruner().prune(copy, schema, "", [])
    return bool(copy != default)
