"""Uniqueness in lists of type set and map (apiextensions schema/listtype)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.fieldpath import FieldError, Path, duplicate, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList

    Check = Callable[[Any], bool]

LIST_TYPE = "x-kubernetes-list-type"
MAP_KEYS = "x-kubernetes-list-map-keys"
_Schema = dict[str, Any]
_MISSING = object()


def compile_unique(schema: _Schema) -> Check | None:
    """Whether no set or map below has an item twice; None when there are none."""
    items = schema.get("items")
    if isinstance(items, dict):
        return _list_check(schema, compile_unique(items))
    properties: dict[str, Check] = {}
    for key, field in (schema.get("properties") or {}).items():
        check = compile_unique(field)
        if check is not None:
            properties[key] = check
    additional = schema.get("additionalProperties")
    element = compile_unique(additional) if isinstance(additional, dict) else None
    if not properties and element is None:
        return None

    def check_object(value: Any) -> bool:
        if type(value) is not dict:
            return True
        if element is not None and not all(element(item) for item in value.values()):
            return False
        for key, check in properties.items():
            if key in value and not check(value[key]):
                return False
        return True

    return check_object


def _list_check(schema: _Schema, element: Check | None) -> Check | None:
    kind = schema.get(LIST_TYPE)
    keys = tuple(schema.get(MAP_KEYS) or ())
    if kind not in ("set", "map") and element is None:
        return None

    def check_list(value: Any) -> bool:
        if type(value) is not list:
            return True
        if kind == "map":
            if any(item is not None and type(item) is not dict for item in value):
                return False
            if len(value) > 1 and _repeated([_key_of(item, keys) for item in value]):
                return False
        elif kind == "set" and len(value) > 1 and _repeated(value):
            return False
        return element is None or all(element(item) for item in value)

    return check_list


def _key_of(item: Any, keys: tuple[str, ...]) -> Any:
    if len(keys) == 1:
        return _MISSING if item is None else item.get(keys[0], _MISSING)
    return {key: item[key] for key in keys if item is not None and key in item}


def _repeated(values: list[Any]) -> list[int]:
    """Where a value comes for the second time, once for each value."""
    seen: dict[Any, int] = {}
    found = []
    for index, value in enumerate(values):
        if isinstance(value, dict | list):
            token: Any = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        else:
            token = (type(value), value)
        times = seen[token] = seen.get(token, 0) + 1
        if times == 2:
            found.append(index)
    return found


def unique_errors(schema: _Schema, value: Any, path: Path) -> ErrorList:
    """What is there twice, in upstream's words."""
    errors: ErrorList = []
    if isinstance(value, dict):
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            for key, item in value.items():
                errors += unique_errors(additional, item, path.key(key))
        for key, field in (schema.get("properties") or {}).items():
            if key in value:
                errors += unique_errors(field, value[key], path.child(key))
    elif isinstance(value, list):
        errors += _list_errors(schema, value, path)
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                errors += unique_errors(items, item, path.index(index))
    return errors


def _list_errors(schema: _Schema, value: list[Any], path: Path) -> ErrorList:
    kind = schema.get(LIST_TYPE)
    if kind == "set":
        return [duplicate(path.index(i), value[i]) for i in _repeated(value)]
    if kind != "map":
        return []
    for index, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            detail = "must be an object for an array of list-type map"
            return [invalid(path.index(index), item, detail)]
    keys = tuple(schema.get(MAP_KEYS) or ())
    values = [_key_of(item, keys) for item in value]
    errors: list[FieldError] = []
    for index in _repeated(values):
        found = values[index]
        if len(keys) == 1:
            found = {} if found is _MISSING else {keys[0]: found}
        errors.append(duplicate(path.index(index), found))
    return errors
