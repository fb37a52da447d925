"""What whoever writes a CRD is warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import format_value
from pilothouse.apiserver.apiextensions.crd_validation import schemas
from pilothouse.apiserver.apiextensions.formats import known_format
from pilothouse.apiserver.apiextensions.structural import subschemas

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def warnings(crd: Obj, old: Obj | None) -> list[str]:
    """Upstream's; what ``old`` had already is not told again."""
    before = set(_all(old)) if old is not None else set()
    return [text for text in _all(crd) if text not in before]


def _all(crd: Obj) -> list[str]:
    formats: list[str] = []
    sets: set[str] = set()
    for schema in schemas(crd["spec"]):
        _collect(schema, formats, sets)
    return [*formats, *sorted(sets)]


def _collect(schema: dict[str, Any], formats: list[str], sets: set[str]) -> None:
    name = schema.get("format")
    if name and not known_format(name, schema.get("type") or ""):
        formats.append(f"unrecognized format {format_value(name)}")
    items = schema.get("items")
    if schema.get("x-kubernetes-list-type") == "set" and isinstance(items, dict):
        if items.get("type") in ("object", "array"):
            shown = format_value(items["type"])
            sets.add(
                f"x-kubernetes-list-type: set for items of type {shown} is not supported by "
                "server-side apply or CEL validation rules"
            )
    for each in subschemas(schema):
        _collect(each, formats, sets)
