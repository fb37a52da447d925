"""Static defaults: ``+default=`` markers of built-in kinds and ``default`` of CRD schemas.

One function for both. Defaults go into objects that are there, never into absent ones, except
that a default may itself be an object, which is then defaulted in turn (upstream's structural
defaulting). Nulls of non-nullable custom fields are removed as upstream prunes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.typeschema import NO_DEFAULT
from pilothouse.apis.schemas import GoField, definition
from pilothouse.apiserver.codec.coercion import CustomType, drops_when_empty

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema

_HAS_DEFAULTS: dict[str, bool] = {}


def apply_defaults(obj: Any, schema: TypeSchema) -> None:
    """Sets what is missing in ``obj``, in place."""
    if isinstance(schema.extra, GoField):
        if _has_defaults(schema, set()):
            _default_built_in(obj, schema)
    elif isinstance(schema.extra, CustomType):
        schema.extra.default(obj)
    else:
        _default_custom(obj, schema)


def _default_built_in(value: Any, schema: TypeSchema) -> None:
    if schema.kind == "object" and isinstance(value, dict):
        for key, field in schema.fields.items():
            if field.default is not NO_DEFAULT and key not in value:
                # A zero that Go would not write (and so nobody manages) is no default.
                if field.default or not drops_when_empty(field):
                    value[key] = copy_object(field.default)
            elif key in value and field.kind in _CONTAINERS and _has_defaults(field, set()):
                _default_built_in(value[key], field)
    elif schema.element is not None and _has_defaults(schema.element, set()):
        for item in _children(value):
            _default_built_in(item, schema.element)


_CONTAINERS = ("object", "list", "map")


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _has_defaults(schema: TypeSchema, visiting: set[str]) -> bool:
    """Some field at or below this node has a default; remembered per definition."""
    if schema.kind in ("list", "map"):
        return schema.element is not None and _has_defaults(schema.element, visiting)
    if schema.kind != "object":
        return False
    name = schema.name
    known = _HAS_DEFAULTS.get(name)
    if known is not None:
        return known
    if name in visiting:
        return False
    visiting.add(name)
    found = any(
        field.default is not NO_DEFAULT or _has_defaults(field, visiting)
        for field in definition(name).fields.values()
    )
    # A definition inside a cycle may only be called free of defaults from outside of the cycle.
    if found or len(visiting) == 1:
        _HAS_DEFAULTS[name] = found
    visiting.discard(name)
    return found


def _default_custom(value: Any, schema: TypeSchema) -> None:
    if isinstance(value, dict):
        for key, field in schema.fields.items():
            if value.get(key, NO_DEFAULT) is None and not field.nullable:
                del value[key]
            if field.default is not NO_DEFAULT and key not in value:
                value[key] = copy_object(field.default)
            if key in value:
                _default_custom(value[key], field)
        if schema.kind == "map" and schema.element is not None:
            _default_map(value, schema)
    elif isinstance(value, list) and schema.kind == "list" and schema.element is not None:
        for item in value:
            _default_custom(item, schema.element)


def _default_map(value: dict[str, Any], schema: TypeSchema) -> None:
    element = schema.element
    assert element is not None
    for key in list(value):
        if value[key] is None and not element.nullable:
            if element.default is NO_DEFAULT:
                del value[key]
                continue
            value[key] = copy_object(element.default)
        _default_custom(value[key], element)
