"""Objects of a kind with every field set: what all of a kind's rules have to say at once."""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apis.schemas import for_gvk

DEPTH = 9


def filled(group: str, version: str, kind: str) -> dict[str, Any]:
    """A string is its field's name, a number is -7, a list has one item."""
    schema = for_gvk(GroupVersionKind(group, version, kind))
    assert schema is not None
    value = _fill(schema, kind, 0)
    assert isinstance(value, dict)
    return value


_SPECIAL: dict[str, Any] = {
    "time": "2020-01-02T03:04:05Z",
    "microtime": "2020-01-02T03:04:05.000006Z",
    "duration": "7s",
    "quantity": "7",
    "intstr": "intstr-value",
    "raw": {"apiVersion": "example.com/v1", "kind": "Example"},
    "json": {"a": 1},
    "fields": {},
    "bytes": "AQI=",
}


def _fill(schema: Any, name: str, depth: int) -> Any:
    special = getattr(schema.extra, "special", "")
    if special in _SPECIAL:
        return _SPECIAL[special]
    if schema.kind == "object":
        if depth > DEPTH or schema.name.endswith("JSONSchemaProps"):
            return {}
        return {key: _fill(item, key, depth + 1) for key, item in schema.fields.items()}
    if schema.kind == "map":
        return {"key~": _fill(schema.element, name, depth + 1)}
    if schema.kind == "list":
        return [_fill(schema.element, name, depth + 1)]
    scalars = {"integer": -7, "number": -7.5, "boolean": True, "string": f"{name}~"}
    return scalars.get(schema.kind, {})
