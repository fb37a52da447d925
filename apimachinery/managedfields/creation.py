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
_MAX_MEMBERS = 64
"""Of a map or list that is looked at."""
_MAX_KNOWN = 1024
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
        key = (schema, reset, _shape(view))
    except _TooBig:
        return _compared(view, schema, reset)
    fields = _known.get(key)
    if fields is None:
        fields = _compared(view, schema, reset)
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = fields
    return fields


def _compared(view: Obj, schema: TypeSchema, reset: tuple[tuple[str, ...], ...]) -> FieldSet:
    comparison = changes(zero_object(schema), view, schema, reset_set(reset))
    return strip(union(comparison.modified, comparison.added))


def _shape(value: Obj) -> tuple[Any, ...]:
    """The keys, what is a zero value, and all of the lists: what is no zero differs from one,
    whatever it is."""
    if len(value) > _MAX_MEMBERS:
        raise _TooBig
    parts: list[Any] = []
    for key, item in value.items():
        kind = type(item)
        if kind is dict:
            parts += (key, _shape(item))
        elif kind is list:
            parts += (key, _contents(item))
        elif item:
            parts.append(key)
        else:
            parts.append((_ZERO, key, kind))
    return tuple(parts)


def _contents(value: Any) -> Any:
    """A value as something to compare by, in which true, 1 and 1.0 differ."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is dict or kind is list:
        if len(value) > _MAX_MEMBERS:
            raise _TooBig
        if kind is list:
            return (_LIST, *map(_contents, value))
        return tuple([(key, _contents(item)) for key, item in value.items()])
    return kind, value
