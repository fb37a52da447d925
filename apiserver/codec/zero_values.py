"""What Go writes of fields that nobody has set: structs that are no pointers, and their zeros.

:func:`fill_zero_values` completes what is there (``resources: {}``, ``name: ""``) before managed
fields are computed; slices, maps and pointers that Go would encode as null stay out.
:func:`fill_status` makes the status of an object that has passed admission.

A client sees ``status: {"loadBalancer": {}}`` on a new Service, and may add to
``/status/conditions`` with a JSON patch, because Go encodes such fields whether or not they are
empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.schemas import GoField, definition

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


def with_structs(obj: Obj, schema: TypeSchema) -> Obj:
    """``obj``, or a copy, with those of the fields of its top that Go always encodes."""
    if not isinstance(schema.extra, GoField):
        return obj
    missing = {
        name: zero_value(field)
        for name, field in schema.fields.items()
        if name not in obj and field.kind == "object" and _always(field)
    }
    return {**obj, **missing} if missing else obj


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


_LEAF, _OBJECT, _LIST, _MAP = range(4)


class _Plan:
    """What a definition's encoder adds, and where to look for more."""

    __slots__ = ("children", "scalars", "structs")

    def __init__(self) -> None:
        self.scalars: list[tuple[str, Any]] = []
        self.structs: list[tuple[str, str]] = []
        self.children: list[tuple[str, int, str]] = []


_PLANS: dict[str, _Plan] = {}
_WORTH: dict[str, bool] = {}


def fill_zero_values(obj: Obj, schema: TypeSchema) -> None:
    """Adds them to ``obj`` of a built-in definition; custom resources have none."""
    if isinstance(schema.extra, GoField) and schema.kind == "object":
        _fill(obj, _plan(schema.name))


def _fill(obj: Any, plan: _Plan) -> None:
    if type(obj) is not dict:
        return
    for key, zero in plan.scalars:
        if key not in obj:
            obj[key] = zero
    for key, name in plan.structs:
        if key not in obj:
            obj[key] = {}
        _fill(obj[key], _plan(name))
    for key, shape, name in plan.children:
        value = obj.get(key)
        if not value:
            if shape == _OBJECT and value is not None:
                _fill(value, _plan(name))
            continue
        if shape == _OBJECT:
            _fill(value, _plan(name))
            continue
        inner = _plan(name)
        for item in value if shape == _LIST else value.values():
            _fill(item, inner)


def _plan(name: str) -> _Plan:
    found = _PLANS.get(name)
    if found is None:
        found = _PLANS[name] = _Plan()
        for key, field in definition(name).fields.items():
            _add(found, key, field)
    return found


def _add(plan: _Plan, key: str, field: TypeSchema) -> None:
    go: GoField = field.extra
    if go.pointer or go.omit_zero or go.special not in ("", "quantity"):
        shape = _OBJECT if field.kind == "object" and go.pointer else _LEAF
    elif go.special == "quantity":
        plan.scalars.append((key, "0"))
        return
    elif field.kind == "object":
        plan.structs.append((key, field.name))
        return
    elif field.kind in _SCALARS:
        if not field.omit_empty:
            plan.scalars.append((key, _SCALARS[field.kind]))
        return
    else:
        shape = {"list": _LIST, "map": _MAP}.get(field.kind, _LEAF)
    target = field if shape == _OBJECT else field.element
    if shape == _LEAF or target is None or target.kind != "object":
        return
    if _worth(target.name, set()):
        plan.children.append((key, shape, target.name))


def _worth(name: str, visiting: set[str]) -> bool:
    """Something below this definition has a zero value to add."""
    known = _WORTH.get(name)
    if known is not None:
        return known
    if name in visiting:
        return False
    visiting.add(name)
    found = any(_adds(field, visiting) for field in definition(name).fields.values())
    if found or len(visiting) == 1:
        _WORTH[name] = found
    visiting.discard(name)
    return found


def _adds(field: TypeSchema, visiting: set[str]) -> bool:
    go: GoField = field.extra
    own = not (go.pointer or go.omit_zero) and go.special in ("", "quantity")
    if own and (go.special == "quantity" or field.kind == "object"):
        return True
    if own and field.kind in _SCALARS and not field.omit_empty:
        return True
    target = field if field.kind == "object" else field.element
    return target is not None and target.kind == "object" and _worth(target.name, visiting)
