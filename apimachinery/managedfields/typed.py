"""Objects seen through their type schema (structured-merge-diff's ``typed``).

Decides what is a leaf, which element of a list is which, and from that builds field sets,
compares, merges and prunes. A list is granular when its list type is ``set`` or ``map``; maps
and structs are, unless they are atomic. Untyped parts of custom resources behave as their
values say (maps granular, lists atomic); untyped parts of built-in kinds are atomic.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from pilothouse.apimachinery.managedfields.fieldset import (
    SELF,
    FieldSet,
    encode_value,
    is_member,
    ordered,
    value_element,
)
from pilothouse.apimachinery.typeschema import ANY, NO_DEFAULT, TypeSchema


class TypedError(ValueError):
    """A value does not fit its schema; the text is upstream's."""


class Comparison(NamedTuple):
    """Leaves and containers that differ between two objects."""

    removed: FieldSet
    modified: FieldSet
    added: FieldSet


_ABSENT: Any = object()
_LIST, _MAP, _LEAF = "list", "map", "leaf"


def _is_atomic(schema: TypeSchema) -> bool:
    if schema.kind == "any":
        return schema.atomic or bool(schema.go_type)
    if schema.kind == "list":
        return schema.list_type == "atomic"
    return schema.atomic


def _shape(value: Any, schema: TypeSchema) -> str:
    """How a value that is present counts: a granular list or map, or a leaf."""
    kind = type(value)
    if kind is dict:
        if schema.kind in ("object", "map", "any"):
            return _LEAF if _is_atomic(schema) else _MAP
    elif kind is list and schema.kind == "list":
        return _LEAF if schema.list_type == "atomic" else _LIST
    return _LEAF


def child_schema(schema: TypeSchema, key: str) -> TypeSchema:
    """The type of a member of a map or struct."""
    if schema.kind == "object":
        return schema.fields.get(key) or ANY
    return (schema.element or ANY) if schema.kind == "map" else ANY


@lru_cache(maxsize=4096)
def _keys(schema: TypeSchema) -> tuple[tuple[str, str, Any], ...]:
    """(name, its JSON, default) of a list's map keys, sorted."""
    return tuple(
        (name, encode_value(name), _key_default(schema, name)) for name in sorted(schema.map_keys)
    )


def _key_default(schema: TypeSchema, name: str) -> Any:
    """What an item has that does not name its key. Upstream publishes a zero value as the default
    of every field of a built-in type that Go always writes."""
    element = schema.element
    field = element.fields.get(name) if element is not None else None
    if element is None or field is None:
        return NO_DEFAULT
    if field.default is NO_DEFAULT and element.name and name in element.required:
        return {"string": "", "integer": 0}.get(field.kind, NO_DEFAULT)
    return field.default


def item_element(item: Any, schema: TypeSchema) -> str:
    """The path element of a granular list's item. :raises TypedError: it has none."""
    if schema.list_type != "map":
        if item is None:
            raise TypedError("associative list without keys has an element that's an explicit null")
        if type(item) is dict:
            raise TypedError("associative list without keys has an element that's a map type")
        if type(item) is list:
            raise TypedError("not supported: associative list with lists as elements")
        return value_element(item)
    if item is None:
        raise TypedError("associative list with keys may not have a null element")
    if type(item) is not dict:
        raise TypedError("associative list with keys may not have non-map elements")
    keys = _keys(schema)
    parts: list[str] = []
    for name, encoded, default in keys:
        value = item.get(name, default)
        if value is not NO_DEFAULT:
            parts.append(f"{encoded}:{encode_value(value)}")
    if not parts and keys:
        shown = " ".join(f'"{name}"' for name in schema.map_keys)
        raise TypedError(
            f"associative list with keys has an element that omits all key fields [{shown}] (and "
            "doesn't have default values for any key fields)"
        )
    return "k:{" + ",".join(parts) + "}"


def _elements(items: list[Any], schema: TypeSchema) -> list[str]:
    elements: list[str] = []
    for i, item in enumerate(items):
        try:
            elements.append(item_element(item, schema))
        except TypedError as error:
            raise TypedError(f"element {i}: {error}") from None
    return elements


def _grouped(items: list[Any], schema: TypeSchema) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for element, item in zip(_elements(items, schema), items, strict=True):
        groups.setdefault(element, []).append(item)
    return groups


def whole(value: Any, schema: TypeSchema) -> FieldSet:
    """The node of a value that came or went entirely: its containers are members too."""
    kind = type(value)
    if kind is dict:
        if not value or _shape(value, schema) is not _MAP:
            return {}
        node: FieldSet = {SELF: {}}
        if schema.kind == "object":
            fields = schema.fields
            for key in sorted(value):
                child = value[key]
                if type(child) is dict or type(child) is list:
                    node["f:" + key] = whole(child, fields.get(key) or ANY)
                else:
                    node["f:" + key] = {}
            return node
        element = child_schema(schema, "")
        for key in sorted(value):
            node["f:" + key] = whole(value[key], element)
        return node
    if kind is list:
        if not value or _shape(value, schema) is not _LIST:
            return {}
        node = {}
        element = schema.element or ANY
        for name, items in _grouped(value, schema).items():
            node[name] = whole(items[0], element) if len(items) == 1 else {}
        return {SELF: {}, **ordered(node)}
    return {}


def to_field_set(value: Any, schema: TypeSchema) -> FieldSet:
    """All fields that the value sets (TypedValue.ToFieldSet); structs themselves are not members.

    :raises TypedError: a list item has no identity.
    """
    shape = _shape(value, schema)
    result: FieldSet = {}
    if shape is _MAP:
        struct = schema.kind == "object"
        fields = schema.fields if struct else {}
        for key in sorted(value):
            named = key in fields
            child = value[key]
            below = fields[key] if named else child_schema(schema, key)
            node = _set_node(child, below)
            if node is not None:
                if not named and node and SELF not in node:
                    node = {SELF: {}, **node}
                result["f:" + key] = node
            elif not named:
                result["f:" + key] = {}
    elif shape is _LIST:
        element = schema.element or ANY
        for name, items in _grouped(value, schema).items():
            below_items = to_field_set(items[0], element) if len(items) == 1 else {}
            result[name] = {SELF: {}, **below_items} if below_items else {}
        result = ordered(result)
    return result


def _set_node(value: Any, schema: TypeSchema) -> FieldSet | None:
    """The node of a field; None when nothing of it is in the set (an empty granular list)."""
    shape = _shape(value, schema)
    if shape is _LEAF or (shape is _MAP and not value):
        return {}
    return to_field_set(value, schema) or None


def compare(old: Any, new: Any, schema: TypeSchema) -> Comparison:
    """How ``new`` differs from ``old``, both of the type. :raises TypedError: as above."""
    comparison = Comparison({}, {}, {})
    if old is not new:
        _compare_maps(old, new, schema, comparison)
    return comparison


def _compare_maps(
    old: dict[str, Any], new: dict[str, Any], schema: TypeSchema, out: Comparison
) -> None:
    struct = schema.kind == "object"
    fields = schema.fields if struct else {}
    other = ANY if struct else child_schema(schema, "")
    for key in sorted(new):
        after = new[key]
        before = old.get(key, _ABSENT)
        if before is after or before == after:
            continue
        element = "f:" + key
        if before is _ABSENT:
            out.added[element] = whole(after, fields.get(key) or other)
        else:
            _compare_values(element, before, after, fields.get(key) or other, out)
    if len(old) == len(new) and old.keys() == new.keys():
        return
    for key in sorted(old):
        if key not in new:
            out.removed["f:" + key] = whole(old[key], fields.get(key) or other)


def _compare_values(
    element: str, before: Any, after: Any, schema: TypeSchema, out: Comparison
) -> None:
    """Two values that are there and unequal."""
    shape = _shape(after, schema)
    old_shape = _shape(before, schema)
    # A null counts as an empty container of the other side's shape.
    if after is None:
        shape = old_shape
    elif before is None:
        old_shape = shape
    if shape is _LEAF or shape is not old_shape or (not before and not after):
        out.modified[element] = {}
        if shape is _MAP and after:
            out.added[element] = _without_self(whole(after, schema))
        if old_shape is _MAP and old_shape is not shape and before:
            out.removed[element] = _without_self(whole(before, schema))
        return
    below = Comparison({}, {}, {})
    if shape is _MAP:
        _compare_maps(before or {}, after or {}, schema, below)
    else:
        _compare_lists(before or [], after or [], schema, below)
    for target, part in (
        (out.removed, below.removed),
        (out.modified, below.modified),
        (out.added, below.added),
    ):
        if part:
            target[element] = part


def _without_self(node: FieldSet) -> FieldSet:
    return {k: v for k, v in node.items() if k != SELF}


def _compare_lists(old: list[Any], new: list[Any], schema: TypeSchema, out: Comparison) -> None:
    element_schema = schema.element or ANY
    before = _grouped(old, schema)
    after = _grouped(new, schema)
    if len(before) + len(after) > 1:
        order = ordered(dict.fromkeys((*before, *after)))
    else:
        order = {**dict.fromkeys(before), **dict.fromkeys(after)}
    for element in order:
        olds = before.get(element) or []
        news = after.get(element) or []
        if len(olds) <= 1 and len(news) <= 1:
            if not olds:
                out.added[element] = whole(news[0], element_schema)
            elif not news:
                out.removed[element] = whole(olds[0], element_schema)
            elif olds[0] != news[0]:
                _compare_values(element, olds[0], news[0], element_schema, out)
        elif len(olds) > 1 and len(news) > 1:
            # Duplicates count as one atomic value.
            if olds != news:
                out.modified[element] = {}
        elif len(olds) > 1:
            out.removed[element] = {}
            if news:
                out.added[element] = whole(news[0], element_schema)
        else:
            out.added[element] = {}
            if olds:
                out.removed[element] = whole(olds[0], element_schema)


def merge(live: Any, applied: Any, schema: TypeSchema) -> Any:
    """``live`` with what ``applied`` says laid over it. :raises TypedError: duplicate items."""
    if applied is live:
        return live
    shape = _shape(applied, schema)
    if applied is None:
        shape = _shape(live, schema)
        return applied if shape is _LEAF or not live else live
    if shape is _LEAF or (not live and not applied):
        return applied
    if shape is _MAP:
        merged = dict(live) if type(live) is dict else {}
        struct = schema.kind == "object"
        fields = schema.fields if struct else {}
        other = ANY if struct else child_schema(schema, "")
        for key, value in applied.items():
            if key in merged:
                merged[key] = merge(merged[key], value, fields.get(key) or other)
            else:
                merged[key] = value
        return merged
    return _merge_lists(live if type(live) is list else [], applied, schema)


def _merge_lists(live: list[Any], applied: list[Any], schema: TypeSchema) -> list[Any]:
    """Keeps the applied order, with the live list's other items where they stood."""
    element_schema = schema.element or ANY
    right = _elements(applied, schema)
    if len(set(right)) != len(right):
        raise TypedError(f"duplicate entries for key {_first_duplicate(right)}")
    left = _elements(live, schema)
    by_left = dict(zip(reversed(left), reversed(live), strict=True))
    by_right = dict(zip(right, applied, strict=True))
    duplicated = {e for e in by_left if left.count(e) > 1} if len(by_left) != len(left) else set()

    def merged_item(element: str) -> Any:
        if element in by_left and element not in duplicated:
            return merge(by_left[element], by_right[element], element_schema)
        return by_right[element]

    shared = [e for e in right if e in by_left]
    out: list[Any] = []
    done: set[str] = set()
    li = ri = si = 0
    while li < len(left) or ri < len(right):
        if li < len(left) and ri < len(right):
            if left[li] == right[ri]:
                done.add(left[li])
                out.append(merged_item(left[li]))
                li, ri, si = li + 1, ri + 1, si + 1
                continue
            if left[li] in by_right and si < len(shared) and shared[si] != left[li]:
                # A shared item, but not the one whose turn it is.
                li += 1
                continue
        if li < len(left):
            if left[li] not in by_right:
                out.append(live[li])
                li += 1
                continue
            if left[li] in done:
                li += 1
        if ri < len(right):
            element = right[ri]
            done.add(element)
            out.append(merged_item(element))
            ri += 1
            if si < len(shared) and shared[si] == element:
                si += 1
    return out


def _first_duplicate(elements: list[str]) -> str:
    from pilothouse.apimachinery.managedfields.fieldset import path_text

    seen: set[str] = set()
    for element in elements:
        if element in seen:
            return path_text((element,))
        seen.add(element)
    return ""


def remove_items(value: Any, fields: FieldSet, schema: TypeSchema) -> Any:
    """``value`` without the members of ``fields``; None when nothing is left of a container."""
    shape = _shape(value, schema)
    if shape is _MAP and value:
        kept: dict[str, Any] = {}
        for key, child in value.items():
            node = fields.get("f:" + key)
            if node is None:
                kept[key] = child
            elif not is_member(node):
                kept[key] = remove_items(child, node, child_schema(schema, key))
        return kept or None
    if shape is _LIST and value:
        element_schema = schema.element or ANY
        items: list[Any] = []
        for element, item in zip(_elements(value, schema), value, strict=True):
            node = fields.get(element)
            if node is None:
                items.append(item)
            elif not is_member(node):
                items.append(remove_items(item, node, element_schema))
        return items or None
    return None if shape is not _LEAF or type(value) in (dict, list) else value


def drop_nulls(value: Any) -> Any:
    """Members that pruning left null go, as they do when Go decodes and encodes them."""
    if type(value) is dict:
        return {k: drop_nulls(v) for k, v in value.items() if v is not None}
    return [drop_nulls(v) for v in value] if type(value) is list else value
