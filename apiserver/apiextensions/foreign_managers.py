"""Field managers that speak another version of a kind than the request does.

Where a webhook converts, the same content has other paths in other versions: what a request
changed is compared once more in each version in which others own fields (the version
converter of structured-merge-diff's Updater).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.managedfields.apply import ApplyConflict, Conflict
from pilothouse.apimachinery.managedfields.entries import decode_entries, encode_entries
from pilothouse.apimachinery.managedfields.fieldset import intersection, iterate, path_text, union
from pilothouse.apimachinery.managedfields.tracking import (
    changes,
    take_from_others,
    tracked_view,
)
from pilothouse.apimachinery.managedfields.validate import validate

if TYPE_CHECKING:
    from pilothouse.apimachinery.managedfields.entries import Managers
    from pilothouse.apimachinery.managedfields.typed import Comparison
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema


def foreign_versions(obj: Obj, api_version: str) -> set[str]:
    """Other versions in which somebody owns fields of ``obj``."""
    entries = obj["metadata"].get("managedFields") or ()
    return {entry.get("apiVersion") or "" for entry in entries} - {api_version, ""}


def compare_in(old: Obj, new: Obj, schema: TypeSchema) -> Comparison:
    """What a request changed, in another version.

    :raises TypedError: that version has no place for what one of the two says.
    """
    validate(old, schema)
    validate(new, schema)
    return changes(tracked_view(old), tracked_view(new), schema, {})


def keep_managers(obj: Obj, live: Obj) -> None:
    """An update that can't be told in all versions is tracked in none."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    entries = live["metadata"].get("managedFields")
    if entries:
        metadata["managedFields"] = entries
    obj["metadata"] = metadata


def reconcile(obj: Obj, comparisons: dict[str, Comparison], *, refuse: bool) -> None:
    """Takes from the managers of each version what changed there; puts the rest into ``obj``.

    :raises ApplyConflict: ``refuse``, and somebody owns what changed.
    """
    managers = decode_entries(obj["metadata"].get("managedFields"), trusted=True)
    conflicts: list[Conflict] = []
    result: Managers = {}
    for name, managed in managers.items():
        comparison = comparisons.get(managed.api_version)
        if comparison is None:
            result[name] = managed
            continue
        changed = union(comparison.modified, comparison.added)
        if refuse:
            overlap = intersection(managed.fields, changed)
            conflicts += [Conflict(name, path_text(path)) for path in iterate(overlap)]
        result |= take_from_others({name: managed}, comparison, changed, None)
    if conflicts:
        raise ApplyConflict(conflicts)
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    entries = encode_entries(result)
    if entries:
        metadata["managedFields"] = entries
    obj["metadata"] = metadata
