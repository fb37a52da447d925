"""The zero values that Go always encodes: ``status: {}``, ``resources: {}``, ``name: ""``.

Objects are decoded, defaulted and validated without them; just before an object is written the
registry calls :func:`fill_zero_values`, so that clients and managed fields see what upstream's
encoder would have produced. Slices, maps and pointers that Go would encode as null stay out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apis.schemas import GoField, definition

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

_SCALAR_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
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
    elif field.kind in _SCALAR_ZERO:
        if not field.omit_empty:
            plan.scalars.append((key, _SCALAR_ZERO[field.kind]))
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
    if own and field.kind in _SCALAR_ZERO and not field.omit_empty:
        return True
    target = field if field.kind == "object" else field.element
    return target is not None and target.kind == "object" and _worth(target.name, visiting)
