"""Strategic merge patch (apimachinery pkg/util/strategicpatch), steered by the type schema.

Lists with patch strategy ``merge`` are merged by their merge key (or as sets of scalars);
directives in the patch (``$patch``, ``$deleteFromPrimitiveList/…``, ``$setElementOrder/…``,
``$retainKeys``) say what plain data cannot. This module applies; ``strategic_diff`` creates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pilothouse.apimachinery.patch.errors import PatchError
from pilothouse.apimachinery.patch.strategic_diff import create_two_way as create_two_way
from pilothouse.apimachinery.patch.strategic_meta import (
    DELETE_PREFIX,
    DIRECTIVE,
    ORDER_PREFIX,
    RETAIN_KEYS,
    bad_arg_type,
    elements_are_maps,
    format_value,
    lookup_list,
    lookup_struct,
    merge_key_equal,
    no_merge_key,
    normalize_order,
    same,
)
from pilothouse.apimachinery.typeschema import TypeSchema

_BAD_DELETE = "invalid patch format of primitive list"
_BAD_ORDER = "invalid patch format of setElementOrder list"
_BAD_RETAIN = "invalid patch format of retainKeys"

JSONMap = dict[str, Any]


def apply(obj: JSONMap, patch: Any, schema: TypeSchema) -> JSONMap:
    """``obj`` merged with ``patch``. :raises PatchError: with upstream's text."""
    if type(patch) is not dict:
        raise PatchError(_BAD_DOCUMENT, 400)
    return _merge_map(obj, patch, schema)


_BAD_DOCUMENT = "json: cannot unmarshal value into Go value of type map[string]interface {}"


def _merge_map(original: JSONMap, patch: JSONMap, schema: TypeSchema | None) -> JSONMap:
    if DIRECTIVE in patch:
        return _directive(patch)
    merged = dict(original)
    special = [k for k in patch if k[:1] == "$"]
    if special:
        patch = dict(patch)
        _retain_keys(merged, patch)
        for key in special:
            if key.startswith(ORDER_PREFIX):
                _apply_order(merged, patch, key, schema)
    for key, value in patch.items():
        if key.startswith(DELETE_PREFIX):
            _delete_from_list(merged, _target(key, DELETE_PREFIX, _BAD_DELETE), value, schema)
        elif value is None:
            merged.pop(key, None)
        else:
            _merge_value(merged, key, value, schema)
    return merged


def _directive(patch: JSONMap) -> JSONMap:
    directive = patch[DIRECTIVE]
    if directive == "replace":
        return {k: v for k, v in patch.items() if k != DIRECTIVE}
    if directive == "delete":
        return {}
    raise _unknown_directive(directive, patch)


def _unknown_directive(directive: Any, patch: JSONMap) -> PatchError:
    text = f"unknown patch type: {format_value(directive)} in map: {format_value(patch)}"
    return PatchError(text, 500)


def _merge_value(merged: JSONMap, key: str, value: Any, schema: TypeSchema | None) -> None:
    current = merged.get(key)
    if type(value) is dict and type(current) is dict:
        meta = lookup_struct(schema, key)
        if meta.strategy == "replace":
            merged[key] = value
        else:
            merged[key] = _merge_map(current, value, meta.schema)
    elif type(value) is list and type(current) is list:
        meta = lookup_list(schema, key)
        if meta.strategy == "merge":
            merged[key] = _merge_list(current, value, meta.schema, meta.merge_key)
        else:
            merged[key] = value
    elif type(value) is dict or type(value) is list:
        cleaned = _clean(value)
        if cleaned is _DROPPED:
            merged.pop(key, None)
        else:
            merged[key] = cleaned
    else:
        merged[key] = value


_DROPPED = object()


def _clean(value: Any) -> Any:
    """New content: without null members, and without what carries a ``$patch``."""
    if type(value) is dict:
        if value.get(DIRECTIVE) is not None:
            return _DROPPED
        cleaned = {k: _clean(v) for k, v in value.items() if v is not None}
        return {k: v for k, v in cleaned.items() if v is not _DROPPED}
    if type(value) is list:
        return [v for v in map(_clean, value) if v is not _DROPPED]
    return value


def _delete_from_list(merged: JSONMap, key: str, value: Any, schema: TypeSchema | None) -> None:
    current = merged.get(key)
    if value is None:
        merged.pop(key, None)
    elif type(current) is list and type(value) is list:
        meta = lookup_list(schema, key)
        if not current and not value:
            return
        if elements_are_maps(current, value):
            merged[key] = _merge_list(current, value, meta.schema, meta.merge_key)
        else:
            merged[key] = [v for v in current if not any(same(v, d) for d in value)]


def _target(key: str, prefix: str, failure: str) -> str:
    head, slash, field = key.partition("/")
    if head != prefix or not slash:
        raise PatchError(failure, 400)
    return field


def _retain_keys(merged: JSONMap, patch: JSONMap) -> None:
    """Drops what ``$retainKeys`` does not name; the patch may set nothing else."""
    if RETAIN_KEYS not in patch:
        return
    retained = patch.pop(RETAIN_KEYS)
    if type(retained) is not list:
        raise PatchError(_BAD_RETAIN, 400)
    keys = {k for k in retained if isinstance(k, str)}
    for key, value in patch.items():
        if value is None or key.startswith((DELETE_PREFIX, ORDER_PREFIX)):
            continue
        if key not in keys:
            raise PatchError(_BAD_RETAIN, 400)
    for key in [k for k in merged if k not in keys]:
        del merged[key]


def _as_list(container: JSONMap, key: str) -> list[Any]:
    value = container[key]
    if type(value) is not list:
        raise bad_arg_type([], value)
    return value


def _apply_order(merged: JSONMap, patch: JSONMap, key: str, schema: TypeSchema | None) -> None:
    """Merges the list that ``$setElementOrder/<field>`` names and puts it in that order."""
    order = patch.pop(key)
    if type(order) is not list:
        raise bad_arg_type([], order)
    field = _target(key, ORDER_PREFIX, _BAD_ORDER)
    in_original, in_patch = field in merged, field in patch
    original = _as_list(merged, field) if in_original else []
    changes = _as_list(patch, field) if in_patch else []
    meta = lookup_list(schema, field)
    _check_order(changes, order, meta.merge_key)
    if not in_patch:
        if not in_original:
            return
        result = original
    elif not in_original:
        result = _clean_directives(changes)
    elif meta.strategy == "merge":
        result = _merge_list(original, changes, meta.schema, meta.merge_key)
    else:
        result = changes
    maps = elements_are_maps(original, changes)
    parts = _partition(result, order, meta.merge_key)
    merged[field] = normalize_order(*parts, order, original, meta.merge_key if maps else "")
    patch.pop(field, None)


def _clean_directives(items: list[Any]) -> list[Any]:
    return [v for v in items if not (type(v) is dict and DIRECTIVE in v)]


def _check_order(changes: list[Any], order: list[Any], merge_key: str) -> None:
    """The patch's items must be among ``order``'s, in the same order."""
    if not changes or not order:
        return
    kept = changes
    if merge_key:
        kept = []
        for item in changes:
            if type(item) is not dict:
                raise bad_arg_type({}, item)
            if item.get(DIRECTIVE) != "delete":
                kept.append(item)
    at = position = 0
    while at < len(kept) and position < len(order):
        if type(kept[at]) is dict and DIRECTIVE in kept[at]:
            at += 1
            continue
        if merge_key_equal(kept[at], order[position], merge_key):
            at += 1
        position += 1
    if at < len(kept) and position >= len(order):
        raise PatchError(
            f"The order in patch list:\n{format_value(changes)}\n doesn't match {ORDER_PREFIX} "
            f"list:\n{format_value(order)}\n",
            500,
        )


class _Parts(NamedTuple):
    patch_items: list[Any]
    server_only: list[Any]


def _partition(items: list[Any], by: list[Any], merge_key: str) -> _Parts:
    """Splits ``items`` into those that ``by`` names and the rest."""
    parts = _Parts([], [])
    for item in items:
        if merge_key:
            if type(item) is not dict:
                raise bad_arg_type({}, item)
            if merge_key not in item:
                raise no_merge_key(item, merge_key)
            found = _find(by, merge_key, item[merge_key]) is not None
        else:
            found = any(same(item, other) for other in by)
        (parts.patch_items if found else parts.server_only).append(item)
    return parts


def _find(items: list[Any], merge_key: str, value: Any) -> int | None:
    for i, item in enumerate(items):
        if type(item) is not dict:
            raise PatchError(f"value for key {i} is not a map", 500)
        if merge_key in item and same(item[merge_key], value):
            return i
    return None


def _merge_list(
    original: list[Any], patch: list[Any], schema: TypeSchema | None, merge_key: str
) -> list[Any]:
    if not original and not patch:
        return original
    if not elements_are_maps(original, patch):
        merged: list[Any] = []
        for item in (*original, *patch):
            if not any(same(item, other) for other in merged):
                merged.append(item)
        return normalize_order(*_partition(merged, patch, ""), patch, original, "")
    if not merge_key:
        raise PatchError("cannot merge lists without merge key for struct", 500)
    original, patch = _list_directives(original, patch, merge_key)
    merged = list(original)
    for item in patch:
        if merge_key not in item:
            raise no_merge_key(item, merge_key)
        at = _find(merged, merge_key, item[merge_key])
        if at is None:
            merged.append(item)
        else:
            merged[at] = _merge_map(merged[at], item, schema)
    parts = _partition(merged, patch, merge_key)
    return normalize_order(*parts, patch, original, merge_key)


def _list_directives(
    original: list[Any], patch: list[Any], merge_key: str
) -> tuple[list[Any], list[Any]]:
    """Obeys the ``$patch`` elements of a list; gives the lists without them."""
    plain: list[Any] = []
    replace = False
    for item in patch:
        if DIRECTIVE not in item:
            plain.append(item)
            continue
        directive = item[DIRECTIVE]
        if directive == "delete":
            if merge_key not in item:
                raise no_merge_key(item, merge_key)
            while (at := _find(original, merge_key, item[merge_key])) is not None:
                original = [*original[:at], *original[at + 1 :]]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise PatchError("merging lists cannot yet be specified in the patch", 500)
        else:
            raise _unknown_directive(directive, item)
    return (plain, []) if replace else (original, plain)
