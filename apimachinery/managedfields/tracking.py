"""The ownership rules that update and apply share (merge.Updater and the managers around it)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.managedfields.entries import Managed, ManagerID, Managers
from pilothouse.apimachinery.managedfields.fieldset import (
    FieldSet,
    difference,
    make,
    recursive_difference,
    union,
)
from pilothouse.apimachinery.managedfields.typed import Comparison, compare

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

_STRIPPED_METADATA = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)
_STRIPPED: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": {}, **{f"f:{name}": {} for name in sorted(_STRIPPED_METADATA)}},
}


def strip(fields: FieldSet) -> FieldSet:
    """Without what nobody owns: type, identity and bookkeeping."""
    return difference(fields, _STRIPPED)


def reset_set(reset_fields: Iterable[tuple[str, ...]]) -> FieldSet:
    """The set of a strategy's reset fields, e.g. ``(("status",),)``."""
    return make(*reset_fields)


def filtered(comparison: Comparison, reset: FieldSet) -> Comparison:
    """Without what the endpoint does not let the request change."""
    if not reset:
        return comparison
    return Comparison(*(recursive_difference(part, reset) for part in comparison))


def tracked_view(obj: Obj) -> Obj:
    """``obj`` without the fields that are never tracked; what it holds is shared."""
    view = dict(obj)
    view.pop("apiVersion", None)
    view.pop("kind", None)
    metadata = view.get("metadata")
    if type(metadata) is dict:
        view["metadata"] = {k: v for k, v in metadata.items() if k not in _STRIPPED_METADATA}
    return view


def zero_object(schema: TypeSchema) -> Obj:
    """What Go's empty object of a built-in kind encodes to.

    A create is compared with this, so that structs and lists that Go always writes do not
    count as added. Custom resources start from nothing.
    """
    return _zero(schema, 8) if schema.go_type else {}


@lru_cache(maxsize=512)
def _zero(schema: TypeSchema, depth: int) -> Obj:
    zero: dict[str, Any] = {}
    for name, field in schema.fields.items():
        # Built-in nodes carry Go's facts: pointers and omitzero fields leave nothing behind.
        pointer = getattr(field.extra, "pointer", False)
        if getattr(field.extra, "omit_zero", False) or (field.omit_empty and pointer):
            continue
        if field.kind == "object" and not pointer:
            zero[name] = _zero(field, depth - 1) if depth else {}
        elif not field.omit_empty:
            zero[name] = None if pointer else _ZEROS.get(field.kind)
    return zero


_ZEROS: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


def changes(old: Obj, new: Obj, schema: TypeSchema, reset: FieldSet) -> Comparison:
    """How the tracked parts differ. :raises TypedError: a list item has no identity."""
    return filtered(compare(old, new, schema), reset)


def take_from_others(
    managers: Managers, comparison: Comparison, changed: FieldSet, keep: ManagerID | None
) -> Managers:
    """Nobody but ``keep`` goes on owning what changed or went."""
    removed = comparison.removed
    if not changed and not removed:
        return managers
    result: Managers = {}
    for name, managed in managers.items():
        if name == keep:
            result[name] = managed
            continue
        fields = difference(difference(managed.fields, changed), removed)
        if fields:
            result[name] = managed if fields is managed.fields else managed.replaced(fields)
    return result


def track_update(
    managers: Managers, comparison: Comparison, name: ManagerID, api_version: str, time: str
) -> Managers:
    """The managers after ``name`` updated the object."""
    changed = union(comparison.modified, comparison.added)
    managers = take_from_others(managers, comparison, changed, None)
    own = strip(changed)
    if own:
        previous = managers.get(name)
        fields = union(previous.fields, own) if previous is not None else own
        managers = {**managers, name: Managed(fields, api_version, time)}
    return managers
