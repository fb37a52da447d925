"""What Go writes for a status that nobody has set: structs that are no pointers, and their zeros.

A client sees ``status: {"loadBalancer": {}}`` on a new Service, and may add to ``/status/conditions``
with a JSON patch, because Go encodes such fields whether or not they are empty. ``registry/store.py``
fills them in when an object has passed admission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.schemas import GoField

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

_SCALARS: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
_ZERO_STATUS: dict[str, Any] = {}


def fill_status(obj: Obj, schema: TypeSchema) -> None:
    """Completes ``obj["status"]`` in place; nothing for custom resources and kinds without one."""
    zero = _zero_status(schema)
    if zero is None:
        return
    status = obj.get("status")
    if status is None:
        obj["status"] = copy_object(zero)
    elif zero and _lacks(status, zero):
        obj["status"] = _completed(status, zero)


def _zero_status(schema: TypeSchema) -> Any:
    if not isinstance(schema.extra, GoField):
        return None
    if schema.name not in _ZERO_STATUS:
        field = schema.fields.get("status")
        always = field is not None and field.kind == "object" and _always(field)
        _ZERO_STATUS[schema.name] = zero_value(field) if field is not None and always else None
    return _ZERO_STATUS[schema.name]


def _always(field: TypeSchema) -> bool:
    """Go encodes the field even when it is empty (lists and maps, which become null, aside)."""
    go = field.extra
    if not isinstance(go, GoField) or go.pointer or go.omit_zero or go.special:
        return False
    return field.kind == "object" or (field.kind in _SCALARS and not field.omit_empty)


def zero_value(schema: TypeSchema) -> Any:
    """The JSON of the type's zero value."""
    if schema.kind != "object":
        return _SCALARS[schema.kind]
    return {name: zero_value(field) for name, field in schema.fields.items() if _always(field)}


def _lacks(value: Any, zero: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return False
    return any(
        key not in value or (part and _lacks(value[key], part)) for key, part in zero.items()
    )


def _completed(value: Any, zero: Any) -> Any:
    """``value``, or a copy with what it lacks; never changes ``value``, which may be shared."""
    if not isinstance(value, dict) or not isinstance(zero, dict):
        return value
    missing = {key: copy_object(part) for key, part in zero.items() if key not in value}
    return {key: _completed(part, zero.get(key)) for key, part in value.items()} | missing
