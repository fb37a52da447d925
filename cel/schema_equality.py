"""Lists that their schema calls sets or maps: equality without order, sums without doubles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilothouse.cel.operators import no_overload
from pilothouse.cel.values import contains, equals

if TYPE_CHECKING:
    from pilothouse.cel.types import Type

Equal = Callable[[Any, Any], bool]


def equality_of(type_: Type) -> Equal | None:
    """The comparison for values of ``type_``; None: the usual one."""
    schema = type_.schema
    if schema is None:
        return None
    if type_.kind == "object":
        inner: dict[str, Equal] = {}
        for field in type_.fields.values():
            function = equality_of(field.type)
            if function is not None:
                inner[field.name] = function
        return _objects(inner) if inner else None
    element = equality_of(type_.params[-1])
    if type_.kind == "map":
        return None if element is None else _maps(element)
    if schema.list_type == "set":
        return _sets
    if schema.list_type == "map":
        return _map_lists(schema.map_keys, element or equals)
    return None if element is None else _lists(element)


def addition_of(type_: Type) -> Callable[[Any, Any], Any] | None:
    """``+`` for lists of ``type_``; None: the usual one."""
    schema = type_.schema
    if schema is None or type_.kind != "list":
        return None
    if schema.list_type == "set":
        return _add_sets
    return _add_map_lists(schema.map_keys) if schema.list_type == "map" else None


def _objects(inner: dict[str, Equal]) -> Equal:
    def equal(a: Any, b: Any) -> bool:
        if not isinstance(a, dict) or not isinstance(b, dict):
            return equals(a, b)
        if a.keys() != b.keys():
            return False
        return all(inner.get(key, equals)(value, b[key]) for key, value in a.items())

    return equal


def _maps(element: Equal) -> Equal:
    def equal(a: Any, b: Any) -> bool:
        if not isinstance(a, dict) or not isinstance(b, dict):
            return equals(a, b)
        return a.keys() == b.keys() and all(element(value, b[key]) for key, value in a.items())

    return equal


def _lists(element: Equal) -> Equal:
    def equal(a: Any, b: Any) -> bool:
        if not isinstance(a, list) or not isinstance(b, list):
            return equals(a, b)
        return len(a) == len(b) and all(map(element, a, b))

    return equal


def _sets(a: Any, b: Any) -> bool:
    if not isinstance(a, list) or not isinstance(b, list):
        return equals(a, b)
    return len(a) == len(b) and all(contains(b, each) for each in a)


def _key_of(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        raise no_overload()
    values = (item.get(key) for key in keys)
    return tuple((type(value) is bool, value) for value in values)


def _map_lists(keys: tuple[str, ...], element: Equal) -> Equal:
    def equal(a: Any, b: Any) -> bool:
        if not isinstance(a, list) or not isinstance(b, list):
            return equals(a, b)
        if len(a) != len(b):
            return False
        others = {_key_of(item, keys): item for item in b}
        for item in a:
            other = others.get(_key_of(item, keys))
            if other is None or not element(item, other):
                return False
        return True

    return equal


def _add_sets(a: Any, b: Any) -> Any:
    if not isinstance(a, list) or not isinstance(b, list):
        raise no_overload()
    result = list(a)
    for each in b:
        if not contains(result, each):
            result.append(each)
    return result


def _add_map_lists(keys: tuple[str, ...]) -> Callable[[Any, Any], Any]:
    def add(a: Any, b: Any) -> Any:
        if not isinstance(a, list) or not isinstance(b, list):
            raise no_overload()
        result = {_key_of(item, keys): item for item in a}
        for item in b:
            result[_key_of(item, keys)] = item
        return list(result.values())

    return add
