"""What the creator of an object of a built-in kind manages, remembered by the object's shape.

Replicas and events differ in texts that no set of fields mentions: the names of what an object
holds, and the whole contents of its lists (whose items are named by some of their values), say
everything. Objects with too much of either are compared anew each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.managedfields.fieldset import FieldSet, union
from pilothouse.apimachinery.managedfields.tracking import (
    changes,
    reset_set,
    strip,
    tracked_view,
    zero_object,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

_LIST, _ZERO = object(), object()
_MAX_MEMBERS = 300
"""Of all maps and lists that are looked at: a shape is not to be bigger than what it saves."""
_MAX_KNOWN, _MAX_TEXT = 1024, 16_384
_known: dict[tuple[Any, ...], FieldSet] = {}


class _TooBig(Exception):
    pass


def fields_of_new(obj: Obj, schema: TypeSchema, reset: tuple[tuple[str, ...], ...]) -> FieldSet:
    """All that is set in ``obj``, but for ``reset``. :raises TypedError: a list item has no
    identity."""
    view = tracked_view(obj)
    if not schema.go_type:
        return _compared(view, schema, reset)
    try:
        key = (schema, reset, _shape(view, [_MAX_MEMBERS]))
    except _TooBig:
        return _compared(view, schema, reset)
    fields = _known.get(key)
    if fields is None:
        fields = _compared(view, schema, reset)
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        if len(repr(key[2])) <= _MAX_TEXT:  # keys and strings may be long
            _known[key] = fields
    return fields


def _compared(view: Obj, schema: TypeSchema, reset: tuple[tuple[str, ...], ...]) -> FieldSet:
    comparison = changes(zero_object(schema), view, schema, reset_set(reset))
    return strip(union(comparison.modified, comparison.added))


def _take(value: Any, room: list[int]) -> None:
    room[0] -= len(value)
    if room[0] < 0:
        raise _TooBig


def _shape(value: Obj, room: list[int]) -> tuple[Any, ...]:
    """The keys, what is a zero value, and all of the lists: what is no zero differs from one,
    whatever it is. ``room``: how many members more there may be."""
    _take(value, room)
    parts: list[Any] = []
    for key, item in value.items():
        kind = type(item)
        if kind is dict:
            parts += (key, _shape(item, room))
        elif kind is list:
            parts += (key, _contents(item, room))
        elif item:
            parts.append(key)
        else:
            parts.append((_ZERO, key, kind))
    return tuple(parts)


def _contents(value: Any, room: list[int]) -> Any:
    """A value as something to compare by, in which true, 1 and 1.0 differ."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is list:
        _take(value, room)
        return (_LIST, *(_contents(item, room) for item in value))
    if kind is dict:
        _take(value, room)
        return tuple([(key, _contents(item, room)) for key, item in value.items()])
    return kind, value
