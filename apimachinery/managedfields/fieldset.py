"""Sets of fields, in the very form in which FieldsV1 stands in an object.

A set is a dict of path elements (``f:name``, ``k:{"name":"x"}``, ``v:"x"``, ``i:0``) to nodes.
A node that is empty, or has a ``.``, says that the element itself is in the set; its other keys
are what is in the set below it. No node is empty-handed: what is not in the set is not there.
Keys stand in the order of structured-merge-diff.

Sets are never changed in place once they are built, so parts of one may stand in another, and
the managedFields of a stored object can be used as they are.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilothouse.apimachinery.typeschema import TypeSchema

FieldSet = dict[str, Any]

SELF = "."


def is_member(node: FieldSet) -> bool:
    """Is the element that this node stands for in the set itself?"""
    return not node or SELF in node


def _node(member: bool, children: FieldSet) -> FieldSet | None:
    if not children:
        return {} if member else None
    return {SELF: {}, **children} if member else children


def _children(node: FieldSet) -> FieldSet:
    return {k: v for k, v in node.items() if k != SELF} if SELF in node else node


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in ``a`` or in ``b``."""
    if not a or a is b:
        return b
    if not b:
        return a
    result = dict(a)
    added = False
    for key, node in b.items():
        mine = result.get(key)
        if mine is None:
            result[key] = node
            added = True
        elif mine is not node and mine != node:
            member = is_member(mine) or is_member(node)
            merged = _node(member, union(_children(mine), _children(node)))
            assert merged is not None, "one of the nodes had something"
            result[key] = merged
    return ordered(result) if added else result


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in ``a`` and not in ``b``; the children of a member of ``b`` stay."""
    if not b or not a:
        return a
    if a is b:
        return {}
    result: FieldSet = {}
    for key, node in a.items():
        other = b.get(key)
        if other is None:
            result[key] = node
            continue
        member = is_member(node) and not is_member(other)
        rest = _node(member, difference(_children(node), _children(other)))
        if rest is not None:
            result[key] = rest
    return result


def recursive_difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in ``a`` and neither in ``b`` nor below a member of ``b``."""
    if not b or not a:
        return a
    result: FieldSet = {}
    for key, node in a.items():
        other = b.get(key)
        if other is None:
            result[key] = node
        elif not is_member(other):
            rest = _node(is_member(node), recursive_difference(_children(node), _children(other)))
            if rest is not None:
                result[key] = rest
    return result


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """What is in both."""
    if not a or not b:
        return {}
    if a is b:
        return a
    result: FieldSet = {}
    for key, node in a.items():
        other = b.get(key)
        if other is None:
            continue
        member = is_member(node) and is_member(other)
        both = _node(member, intersection(_children(node), _children(other)))
        if both is not None:
            result[key] = both
    return result


def ensure_named_fields_are_members(fields: FieldSet, schema: TypeSchema | None) -> FieldSet:
    """Adds every field of a struct that has something below it."""
    result: FieldSet = {}
    for key, node in fields.items():
        child: TypeSchema | None = None
        named = False
        if schema is not None:
            if key[:2] == "f:":
                named = schema.kind == "object" and key[2:] in schema.fields
                child = schema.fields.get(key[2:]) if schema.kind == "object" else schema.element
            elif key[:2] == "k:" and schema.kind == "list":
                child = schema.element
        below = ensure_named_fields_are_members(_children(node), child) if node else {}
        result[key] = _node(named or is_member(node), below) or {}
    return result


def has(fields: FieldSet, *path: str) -> bool:
    """Is the path (of serialized elements) a member?"""
    node = fields
    for element in path:
        following = node.get(element)
        if following is None:
            return False
        node = following
    return bool(path) and is_member(node)


def make(*paths: tuple[str, ...]) -> FieldSet:
    """A set of paths; elements without a prefix are field names."""
    result: FieldSet = {}
    for path in paths:
        node: FieldSet = {}
        for element in reversed(path):
            node = {element if element[1:2] == ":" else f"f:{element}": node}
        result = union(result, node)
    return result


def iterate(fields: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All members, those of a level before what lies below them."""
    keys = [key for key in fields if key != SELF]
    for key in keys:
        if is_member(fields[key]):
            yield (*prefix, key)
    for key in keys:
        if fields[key]:
            yield from iterate(fields[key], (*prefix, key))


def path_text(path: tuple[str, ...]) -> str:
    """As conflicts print it: ``.spec.containers[name="x"].image``."""
    return "".join(map(_element_text, path))


def _element_text(element: str) -> str:
    kind, content = element[:2], element[2:]
    if kind == "f:":
        return f".{content}"
    if kind == "k:":
        pairs = json.loads(content)
        return f"[{','.join(f'{k}={_value_text(pairs[k])}' for k in sorted(pairs))}]"
    if kind == "v:":
        return f"[={_value_text(json.loads(content))}]"
    return f"[{content}]"


def _value_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def ordered(fields: FieldSet) -> FieldSet:
    """The same nodes in the order of structured-merge-diff (one level)."""
    keys = sorted(fields)
    if len(keys) > 1 and keys[-1][:2] in ("k:", "v:"):
        keys.sort(key=_element_order)
    return {key: fields[key] for key in keys}


@lru_cache(maxsize=4096)
def _element_order(element: str) -> tuple[int, Any]:
    kind, content = element[:2], element[2:]
    if kind == "k:":
        pairs = json.loads(content)
        return (2, [(k, *_value_order(pairs[k])) for k in sorted(pairs)])
    if kind == "v:":
        return (3, [("", *_value_order(json.loads(content)))])
    if kind == "i:":
        return (4, [("", 0, int(content))])
    return (0 if element == SELF else 1, [(content, 0, 0)])


def _value_order(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, (int, float)):
        return (0, value)
    return (1, value) if isinstance(value, str) else (3, json.dumps(value, sort_keys=True))


class FieldSetError(ValueError):
    """Not a FieldsV1."""


def decode(value: Any) -> FieldSet:
    """A canonical set from a client's FieldsV1. :raises FieldSetError: it is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldSetError("expected a map")
    result: FieldSet = {}
    for key, below in value.items():
        if key == SELF:
            continue
        element = _canonical_element(key)
        if element is None:
            continue
        children = decode(below)
        member = not children or (isinstance(below, dict) and SELF in below)
        result[element] = _node(member, children) or {}
    return ordered(result)


def _canonical_element(key: str) -> str | None:
    if len(key) < 2:
        raise FieldSetError("key must be 2 characters long:")
    if key[1] != ":":
        raise FieldSetError(f"missing colon: {key}")
    kind, content = key[0], key[2:]
    try:
        if kind == "f":
            return key
        if kind == "v":
            return value_element(json.loads(content))
        if kind == "i":
            return f"i:{int(content)}"
        if kind == "k":
            pairs = json.loads(content)
            if not isinstance(pairs, dict):
                raise FieldSetError("expected an object")
            return key_element(sorted(pairs.items()))
    except ValueError as error:
        raise FieldSetError(str(error)) from None
    # What a later version may know is dropped, as upstream does.
    return None


def value_element(value: Any) -> str:
    """``v:`` of a set's item."""
    return "v:" + encode_value(value)


def key_element(pairs: list[tuple[str, Any]]) -> str:
    """``k:`` of the (sorted) keys of a list's item."""
    return "k:{" + ",".join(f"{encode_value(k)}:{encode_value(v)}" for k, v in pairs) + "}"


def encode_value(value: Any) -> str:
    """JSON as Go's encoder writes it."""
    if type(value) is str:
        return _encode_string(value)
    if type(value) is int:
        return str(value)
    return _escape(json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True))


@lru_cache(maxsize=8192)
def _encode_string(value: str) -> str:
    return _escape(json.dumps(value, ensure_ascii=False))


def _escape(text: str) -> str:
    for plain, escaped in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text


_ESCAPES = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)
