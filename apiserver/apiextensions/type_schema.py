"""CRD schemas as type nodes: what merging, server-side apply and managed fields read."""

from __future__ import annotations

from typing import Any, Literal

from pilothouse.apimachinery.typeschema import ANY, TypeSchema
from pilothouse.apis.schemas import definition

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_Schema = dict[str, Any]
_STRING = TypeSchema("string")
_INT_OR_STRING = TypeSchema("string", int_or_string=True)
_SCALARS: dict[str, TypeSchema] = {
    "string": _STRING,
    "integer": TypeSchema("integer"),
    "number": TypeSchema("number"),
    "boolean": TypeSchema("boolean"),
}
_ListType = Literal["atomic", "set", "map"]


def root_node(schema: _Schema | None, extra: Any) -> TypeSchema:
    """The node of a custom kind; ``extra`` is its compiled schema."""
    fields = _fields(schema or {}, embedded=True)
    preserve = schema is None or bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return TypeSchema("object", fields=fields, preserve_unknown=preserve, extra=extra)


def _fields(schema: _Schema, *, embedded: bool) -> dict[str, TypeSchema]:
    fields: dict[str, TypeSchema] = {}
    if embedded:
        fields = {
            "apiVersion": _STRING,
            "kind": _STRING,
            "metadata": definition(_OBJECT_META),
        }
    for key, field in (schema.get("properties") or {}).items():
        if key not in fields:
            fields[key] = _node(field)
    return fields


def _node(schema: _Schema) -> TypeSchema:
    nullable, default = bool(schema.get("nullable")), schema.get("default")
    if schema.get("x-kubernetes-int-or-string"):
        if not nullable and default is None:
            return _INT_OR_STRING
        return TypeSchema("string", int_or_string=True, nullable=nullable, default=default)
    type_ = schema.get("type") or ""
    scalar = _SCALARS.get(type_)
    if scalar is not None:
        if not nullable and default is None:
            return scalar
        return TypeSchema(scalar.kind, nullable=nullable, default=default)
    if type_ == "array":
        return _list_node(schema, nullable, default)
    if type_ == "object":
        return _object_node(schema, nullable, default)
    return ANY


def _list_node(schema: _Schema, nullable: bool, default: Any) -> TypeSchema:
    items = schema.get("items")
    list_type: _ListType = schema.get("x-kubernetes-list-type") or "atomic"
    return TypeSchema(
        "list",
        element=_node(items) if isinstance(items, dict) else ANY,
        nullable=nullable,
        default=default,
        list_type=list_type,
        map_keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
    )


def _object_node(schema: _Schema, nullable: bool, default: Any) -> TypeSchema:
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    additional = schema.get("additionalProperties")
    embedded = bool(schema.get("x-kubernetes-embedded-resource"))
    if additional and not schema.get("properties"):
        element = _node(additional) if isinstance(additional, dict) else ANY
        return TypeSchema("map", element=element, nullable=nullable, default=default, atomic=atomic)
    return TypeSchema(
        "object",
        fields=_fields(schema, embedded=embedded),
        nullable=nullable,
        default=default,
        atomic=atomic,
        preserve_unknown=bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        embedded_resource=embedded,
    )
