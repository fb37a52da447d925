"""JSON Merge Patch (RFC 7386) as evanphx/json-patch applies and creates it."""

from __future__ import annotations

from typing import Any

from pilothouse.apimachinery.patch.errors import PatchError


def apply(obj: dict[str, Any], patch: Any) -> dict[str, Any]:
    """``obj`` merged with ``patch``, whose nulls delete. :raises PatchError: no object."""
    if type(patch) is not dict:
        if patch is None:
            raise PatchError("Invalid JSON Patch", 400)
        raise PatchError(
            f"error decoding patch: json: cannot unmarshal {_json_type(patch)} into Go value of "
            "type map[string]interface {}",
            400,
        )
    return _merge(obj, patch)


def _merge(obj: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(obj)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
            continue
        current = merged.get(key)
        if type(value) is not dict:
            # Upstream prunes nulls inside a list only where it replaces something that is
            # no object; null members of a list always stay.
            merged[key] = (
                _prune(value) if type(value) is list and type(current) is not dict else (value)
            )
        elif type(current) is dict:
            merged[key] = _merge(current, value)
        else:
            merged[key] = _prune(value)
    return merged


def _prune(value: Any) -> Any:
    """``value`` without null members of objects."""
    if type(value) is dict:
        return {k: _prune(v) for k, v in value.items() if v is not None}
    if type(value) is list:
        return [_prune(v) for v in value]
    return value


def create(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A patch that turns ``old`` into ``new``, as long as ``new`` holds no null."""
    patch: dict[str, Any] = {}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
            continue
        before = old[key]
        if before is value:
            continue
        if type(before) is dict and type(value) is dict:
            changes = create(before, value)
            if changes:
                patch[key] = changes
        elif not _same(before, value):
            patch[key] = value
    for key in old:
        if key not in new:
            patch[key] = None
    return patch


def _same(one: Any, other: Any) -> bool:
    """Equal in JSON: to Python 0 is False and 1 is True."""
    if type(one) is not type(other) or one != other:
        return False
    if type(one) is dict:
        return all(_same(value, other[key]) for key, value in one.items())
    if type(one) is list:
        return all(map(_same, one, other))
    return True


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array"
