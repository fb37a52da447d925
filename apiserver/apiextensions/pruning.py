"""Unknown fields and forbidden nulls of custom objects (schema/pruning, defaulting/prunenulls).

``compile_clean`` makes closures that say whether there is nothing to do, which is the usual case;
:class:`Pruner` does it otherwise, walking object and schema with paths for strict errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import format_value
from pilothouse.apiserver.codec.coercion import CoercionError, coerce_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj

    Clean = Callable[[Any], bool]

META_FIELDS = frozenset(("apiVersion", "kind", "metadata"))
PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
_Schema = dict[str, Any]
_NONE: frozenset[str] = frozenset()
"""One for all: an empty set of its own takes 216 bytes, and most objects of a schema have none."""


def additional_of(schema: _Schema) -> _Schema | bool | None:
    """``additionalProperties``: a schema, true for anything, None when there is none."""
    found: _Schema | bool | None = schema.get("additionalProperties")
    return found


def _leaf(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _never(value: Any) -> bool:
    return False


def _anything(value: Any) -> bool:
    return True


def _keeps_null(schema: _Schema) -> bool:
    return bool(schema.get("nullable")) or schema.get("default") is not None


def compile_clean(schema: _Schema, *, root: bool = False) -> Clean:
    """Whether a value (not null) has no unknown field, no null that must go, no metadata to
    look into and no key twice."""
    if schema.get(EMBEDDED) and not root:
        return _never
    preserve = bool(schema.get(PRESERVE))
    properties, items = schema.get("properties"), schema.get("items")
    additional = additional_of(schema)
    if isinstance(items, dict):
        return _list_clean(compile_clean(items), _keeps_null(items), preserve)
    if isinstance(additional, dict):
        return _map_clean(compile_clean(additional), _keeps_null(additional))
    if additional is True:
        return _map_clean(_leaf, True)
    if properties or root or (schema.get("type") == "object" and not preserve):
        fields = {key: compile_clean(field) for key, field in (properties or {}).items()}
        kept = [key for key, field in (properties or {}).items() if _keeps_null(field)]
        nulls = frozenset(kept) if kept else _NONE
        if root:
            fields |= dict.fromkeys(META_FIELDS, _anything)
        return _object_clean(fields, nulls, preserve)
    return _plain_json if preserve else _leaf


def _plain_json(value: Any) -> bool:
    """Free JSON is kept as it is; a key that came twice makes the decoder's own dict type."""
    if isinstance(value, dict):
        return type(value) is dict and all(_plain_json(item) for item in value.values())
    return not isinstance(value, list) or all(_plain_json(item) for item in value)


def _object_clean(fields: dict[str, Clean], nulls: frozenset[str], preserve: bool) -> Clean:
    get = fields.get

    def clean(value: Any) -> bool:
        if type(value) is not dict:
            return not isinstance(value, dict | list)
        for key, item in value.items():
            field = get(key)
            if field is None:
                if preserve and _plain_json(item):
                    continue
                return False
            if item is None:
                if key not in nulls:
                    return False
            elif not field(item):
                return False
        return True

    return clean


def _map_clean(element: Clean, keeps_null: bool) -> Clean:
    def clean(value: Any) -> bool:
        if type(value) is not dict:
            return not isinstance(value, dict | list)
        for item in value.values():
            if item is None:
                if not keeps_null:
                    return False
            elif not element(item):
                return False
        return True

    return clean


def _list_clean(element: Clean, keeps_null: bool, preserve: bool) -> Clean:
    del keeps_null, preserve  # nulls of lists stay where they are; preserving goes no deeper

    def clean(value: Any) -> bool:
        if type(value) is not list:
            return not isinstance(value, dict)
        for item in value:
            if item is not None and not element(item):
                return False
        return True

    return clean


class Pruner:
    """One walk of one object; ``unknown`` are paths for strict decoding."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self.unknown: list[str] = []

    def object(self, obj: Obj, schema: _Schema) -> Obj:
        """A custom resource without what its schema does not know. Its own metadata is left
        to the caller."""
        plain: Obj = self.flatten(obj, "")
        found: list[str] = []
        self.prune(plain, {**schema, EMBEDDED: True}, "", found)
        self.unknown += sorted(found)
        drop_nulls(plain, schema, root=True)
        found = []
        self.embedded(plain, schema, "", found)
        self.unknown += sorted(found)
        return plain

    def flatten(self, value: Any, path: str) -> Any:
        """``value`` in plain containers; keys that came twice are noted, the last one counts."""
        if isinstance(value, dict):
            pairs = getattr(value, "pairs", None)
            result: dict[str, Any] = {}
            for key, item in value.items() if pairs is None else pairs:
                below = f"{path}.{key}" if path else key
                if key in result:
                    self.duplicates.append(below)
                result[key] = self.flatten(item, below)
            return result
        if isinstance(value, list):
            return [self.flatten(item, f"{path}[{i}]") for i, item in enumerate(value)]
        return value

    def prune(self, value: Any, schema: _Schema | None, path: str, found: list[str]) -> None:
        if schema is not None and schema.get(PRESERVE):
            self._skip(value, schema, path, found)
        elif isinstance(value, dict):
            properties = (schema or {}).get("properties") or {}
            additional = None if schema is None else additional_of(schema)
            for key in list(value):
                below = f"{path}.{key}" if path else key
                if schema is not None and schema.get(EMBEDDED) and key in META_FIELDS:
                    continue
                if key in properties:
                    self.prune(value[key], properties[key], below, found)
                elif additional is not None:
                    inner = additional if isinstance(additional, dict) else None
                    self.prune(value[key], inner, below, found)
                else:
                    if path or key not in META_FIELDS:
                        found.append(below)
                    del value[key]
        elif isinstance(value, list):
            items = None if schema is None else schema.get("items")
            for index, item in enumerate(value):
                self.prune(item, items, f"{path}[{index}]", found)

    def _skip(self, value: Any, schema: _Schema | None, path: str, found: list[str]) -> None:
        if schema is None:
            return
        if isinstance(value, dict):
            properties = schema.get("properties") or {}
            additional = additional_of(schema)
            for key, item in value.items():
                if schema.get(EMBEDDED) and key in META_FIELDS:
                    continue
                below = f"{path}.{key}" if path else key
                if key in properties:
                    self.prune(item, properties[key], below, found)
                elif additional is not None:
                    inner = additional if isinstance(additional, dict) else None
                    self.prune(item, inner, below, found)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._skip(item, schema.get("items"), f"{path}[{index}]", found)

    def embedded(self, value: Any, schema: _Schema | None, path: str, found: list[str]) -> None:
        """Brings the metadata of embedded objects into form. :raises CoercionError."""
        if not isinstance(schema, dict):
            return
        if isinstance(value, dict):
            if schema.get(EMBEDDED):
                self._embedded_meta(value, path, found)
            properties = schema.get("properties") or {}
            additional = additional_of(schema)
            for key, item in value.items():
                below = f"{path}.{key}" if path else key
                if key in properties:
                    self.embedded(item, properties[key], below, found)
                elif isinstance(additional, dict):
                    self.embedded(item, additional, below, found)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.embedded(item, schema.get("items"), f"{path}[{index}]", found)

    def _embedded_meta(self, value: Obj, path: str, found: list[str]) -> None:
        for key in ("apiVersion", "kind"):
            if key in value and not isinstance(value[key], str):
                shown = format_value(value[key])
                raise CoercionError(f"{path}.{key}: Invalid value: {shown}: must be a string")
        if "metadata" in value:
            errors: list[str] = []
            value["metadata"] = coerce_metadata(value["metadata"], f"{path}.metadata", errors)
            found += [error.partition('"')[2].removesuffix('"') for error in errors]


def drop_nulls(value: Any, schema: _Schema | None, *, root: bool = False) -> None:
    """Deletes nulls that their schema does not allow and that no default replaces."""
    if isinstance(value, dict):
        properties = (schema or {}).get("properties") or {}
        additional = None if schema is None else additional_of(schema)
        for key in list(value):
            if root and key in META_FIELDS:
                continue
            field = properties.get(key)
            if field is None and isinstance(additional, dict):
                field = additional
            if value[key] is None and field is not None and not _keeps_null(field):
                del value[key]
            else:
                drop_nulls(value[key], field)
    elif isinstance(value, list):
        items = None if schema is None else schema.get("items")
        for item in value:
            drop_nulls(item, items)
