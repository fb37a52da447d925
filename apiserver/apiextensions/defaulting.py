"""Defaults of CRD schemas as closures (apiextensions schema/defaulting).

Only the parts of a schema that hold a default below them get a function. Defaults go into
objects that are there; a default that is an object is defaulted in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object

if TYPE_CHECKING:
    from collections.abc import Callable

    Default = Callable[[Any], None]

_Schema = dict[str, Any]


def compile_default(schema: _Schema) -> Default | None:
    """Sets what is missing in a value, in place; None when there is nothing to set."""
    items = schema.get("items")
    if isinstance(items, dict):
        return _list_default(compile_default(items), items)
    properties = schema.get("properties") or {}
    own = {key: field for key, field in properties.items() if field.get("default") is not None}
    values = {key: field["default"] for key, field in own.items()}
    nullable = frozenset(key for key, field in own.items() if field.get("nullable"))
    below: dict[str, Default] = {}
    for key, field in properties.items():
        function = compile_default(field)
        if function is not None:
            below[key] = function
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return _map_default(compile_default(additional), additional)
    if not values and not below:
        return None
    return _object_default(values, nullable, below)


def _object_default(
    values: dict[str, Any], nullable: frozenset[str], below: dict[str, Default]
) -> Default:
    def default(value: Any) -> None:
        if type(value) is not dict:
            return
        for key, wanted in values.items():
            if value.get(key) is None and (key not in value or key not in nullable):
                value[key] = copy_object(wanted)
        for key, function in below.items():
            inner = value.get(key)
            if inner is not None:
                function(inner)

    return default


def _map_default(function: Default | None, element: _Schema) -> Default | None:
    wanted = element.get("default")
    if function is None and wanted is None:
        return None
    replaces_null = not element.get("nullable")

    def default(value: Any) -> None:
        if type(value) is not dict:
            return
        for key, item in value.items():
            if item is None and replaces_null:
                value[key] = item = copy_object(wanted)
            if function is not None and item is not None:
                function(item)

    return default


def _list_default(function: Default | None, items: _Schema) -> Default | None:
    wanted = items.get("default")
    if function is None and wanted is None:
        return None
    replaces_null = not items.get("nullable")

    def default(value: Any) -> None:
        if type(value) is not list:
            return
        for index, item in enumerate(value):
            if item is None and replaces_null:
                value[index] = item = copy_object(wanted)
            if function is not None and item is not None:
                function(item)

    return default
