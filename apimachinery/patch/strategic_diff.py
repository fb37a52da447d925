"""Creating a strategic merge patch from two versions of an object (CreateTwoWayMergePatch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.patch.errors import PatchError
from pilothouse.apimachinery.patch.strategic_meta import (
    DELETE_PREFIX,
    DIRECTIVE,
    NO_LIST_OF_LISTS,
    ORDER_PREFIX,
    RETAIN_KEYS,
    PatchMeta,
    elements_are_maps,
    format_value,
    lookup_list,
    lookup_struct,
    merge_key_equal,
    no_merge_key,
    same,
    sort_by_order,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema

JSONMap = dict[str, Any]


def create_two_way(old: JSONMap, new: JSONMap, schema: TypeSchema) -> JSONMap:
    """A patch that turns ``old`` into ``new``. :raises PatchError: with upstream's text."""
    return _diff_maps(old, new, schema, False)


def _diff_maps(old: JSONMap, new: JSONMap, schema: TypeSchema | None, retain: bool) -> JSONMap:
    patch: JSONMap = {}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
            continue
        before = old[key]
        if before is value:
            continue
        if type(before) is not type(value):
            patch[key] = value
        elif type(value) is dict:
            _diff_map_field(patch, key, before, value, schema)
        elif type(value) is list:
            _diff_list_field(patch, key, before, value, schema)
        elif before != value:
            patch[key] = value
    for key in old:
        if key not in new:
            patch[key] = None
    if retain:
        kept = sorted(k for k, v in new.items() if v is not None)
        gone = any(v is not None and k not in new for k, v in old.items())
        if kept and (patch or gone):
            patch[RETAIN_KEYS] = kept
    return patch


def _diff_map_field(
    patch: JSONMap, key: str, before: JSONMap, value: JSONMap, schema: TypeSchema | None
) -> None:
    if before == value:
        # An unknown type is no error as long as nothing changed.
        return
    meta = lookup_struct(schema, key)
    if meta.strategy == "replace":
        patch[key] = value
        return
    changes = _diff_maps(before, value, meta.schema, meta.retain_keys)
    if changes:
        patch[key] = changes


def _diff_list_field(
    patch: JSONMap, key: str, before: list[Any], value: list[Any], schema: TypeSchema | None
) -> None:
    if before == value:
        return
    meta = lookup_list(schema, key)
    if meta.strategy != "merge":
        patch[key] = value
        return
    if not before:
        patch[key] = value
        return
    if elements_are_maps(before, value):
        changes, order = _diff_map_lists(before, value, meta)
        deletions: list[Any] = []
    else:
        changes, deletions, order = _diff_scalar_lists(before, value)
    if changes:
        patch[key] = changes
    if deletions:
        patch[f"{DELETE_PREFIX}/{key}"] = deletions
    if order:
        patch[f"{ORDER_PREFIX}/{key}"] = order


def _diff_scalar_lists(before: list[Any], value: list[Any]) -> tuple[list[Any], ...]:
    if any(type(v) is list for v in (*before, *value)):
        raise PatchError(NO_LIST_OF_LISTS, 422)
    additions = list(value)
    deletions: list[Any] = []
    for item in before:
        at = next((i for i, v in enumerate(additions) if same(v, item)), None)
        if at is not None:
            del additions[at]
        elif not any(same(item, other) for other in deletions):
            deletions.append(item)
    deletions.sort(key=format_value)
    return additions, deletions, value


def _diff_map_lists(
    before: list[Any], value: list[Any], meta: PatchMeta
) -> tuple[list[Any], list[Any]]:
    merge_key = meta.merge_key
    old = _sorted_by_key(before, merge_key)
    new = _sorted_by_key(value, merge_key)
    changes: list[Any] = []
    deletions: list[Any] = []
    i = j = 0
    # Keys may repeat (ports of two protocols), so the sorted lists are walked side by side.
    while i < len(old) or j < len(new):
        if i >= len(old) or (j < len(new) and old[i][0] > new[j][0]):
            changes.append(new[j][1])
            j += 1
        elif j >= len(new) or old[i][0] < new[j][0]:
            deletions.append({DIRECTIVE: "delete", merge_key: old[i][1][merge_key]})
            i += 1
        else:
            item = new[j][1]
            difference = _diff_maps(old[i][1], item, meta.schema, meta.retain_keys)
            if difference:
                difference[merge_key] = item[merge_key]
                changes.append(difference)
            i += 1
            j += 1
    changes = sort_by_order(changes, value, merge_key) + deletions
    same_order = len(before) == len(value) and all(
        merge_key_equal(a, b, merge_key) for a, b in zip(before, value, strict=True)
    )
    order = [{merge_key: item[merge_key]} for item in value] if changes or not same_order else []
    return changes, order


def _sorted_by_key(items: list[Any], merge_key: str) -> list[tuple[str, JSONMap]]:
    for item in items:
        if merge_key not in item:
            raise no_merge_key(item, merge_key)
    keyed = [(format_value(item[merge_key]), item) for item in items]
    return sorted(keyed, key=lambda pair: pair[0])
