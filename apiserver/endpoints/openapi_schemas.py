"""OpenAPI schemas from type schemas: the ``components.schemas`` of v3, the ``definitions`` of v2.

Built-in definitions are made from the same nodes that the codec reads, so that what is published
is what is checked. Descriptions come from the optional ``kubernetes_validate`` package.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.typeschema import NO_DEFAULT
from pilothouse.apis.schemas import (
    SPECIAL_DEFINITIONS,
    GoField,
    definition,
    kinds_of_definition,
    upstream_version,
)
from pilothouse.apiserver.endpoints.openapi_facts import ENUMS, UNIONS

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema

GVK_EXTENSION = "x-kubernetes-group-version-kind"
_ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
_CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
_SPECIAL_NAMES = SPECIAL_DEFINITIONS | {
    "or_array": f"{_CRD}.JSONSchemaPropsOrArray",
    "or_bool": f"{_CRD}.JSONSchemaPropsOrBool",
    "or_strings": f"{_CRD}.JSONSchemaPropsOrStringArray",
}
_SPECIAL_BY_NAME = {name: special for special, name in _SPECIAL_NAMES.items()}
_SPECIAL_SCHEMAS: dict[str, dict[str, Any]] = {
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "duration": {"type": "string"},
    "raw": {"type": "object"},
    "fields": {"type": "object"},
}
_SPECIAL_V3: dict[str, dict[str, Any]] = {
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intstr": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}
_SPECIAL_V2: dict[str, dict[str, Any]] = {
    "quantity": {"type": "string"},
    "intstr": {"type": "string", "format": "int-or-string"},
}


@cache
def descriptions() -> dict[str, Any]:
    """Upstream's definitions with descriptions by name; empty when the package is missing.

    Found without importing the package; only the one file is read.
    """
    from importlib.util import find_spec

    import orjson

    spec = find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        return {}
    minor = ".".join(upstream_version().split(".")[:2])
    folder = Path(spec.origin).parent / "kubernetes-json-schema"
    for path in sorted(folder.glob(f"{minor}.*-local/_definitions.json"), reverse=True):
        content: dict[str, Any] = orjson.loads(path.read_bytes())
        found: dict[str, Any] = content.get("$defs") or content.get("definitions") or {}
        return found
    return {}


class SchemaWriter:
    """Writes definitions in the dialect of OpenAPI ``version`` (2 or 3)."""

    def __init__(self, version: int, *, described: bool = True) -> None:
        self.version = version
        self.prefix = "#/components/schemas/" if version == 3 else "#/definitions/"
        self.described = described
        self._special = _SPECIAL_SCHEMAS | (_SPECIAL_V3 if version == 3 else _SPECIAL_V2)

    def ref(self, name: str) -> dict[str, Any]:
        return {"$ref": self.prefix + name}

    def write(
        self, name: str, gvks: list[tuple[str, str, str]] | None = None
    ) -> tuple[dict[str, Any], set[str]]:
        """The schema of a built-in definition and the names that it refers to."""
        facts = descriptions().get(name, {}) if self.described else {}
        result: dict[str, Any] = {}
        if facts.get("description"):
            result["description"] = facts["description"]
        special = _SPECIAL_BY_NAME.get(name)
        if special is not None:
            return result | self._special.get(special, {}), set()
        schema, used = definition(name), set[str]()
        result["type"] = "object"
        properties: dict[str, Any] = {}
        texts = facts.get("properties", {})
        for key, field in schema.fields.items():
            text = texts.get(key, {}).get("description", "")
            properties[key] = self.property(key, field, text, used)
            values = ENUMS.get((name, key))
            if values is not None:
                shape = properties[key]
                of = shape.get("items", shape.get("additionalProperties", shape))
                of["enum"] = list(values)
        if properties:
            result["properties"] = properties
        required = [key for key in schema.fields if key in schema.required]
        if required:
            result["required"] = required
        kinds = kinds_of_definition(name) if gvks is None else gvks
        if kinds:
            result[GVK_EXTENSION] = [
                {"group": group, "kind": kind, "version": version} for group, version, kind in kinds
            ]
        if name in UNIONS:
            result["x-kubernetes-unions"] = UNIONS[name]
        if schema.atomic:
            result["x-kubernetes-map-type"] = "atomic"
        return result, used

    def property(self, key: str, field: TypeSchema, text: str, used: set[str]) -> dict[str, Any]:
        result: dict[str, Any] = {"description": text} if text else {}
        # Upstream prunes defaults from v2.
        default = field_default(field) if self.version == 3 else NO_DEFAULT
        if default is not NO_DEFAULT:
            result["default"] = default
        result |= self._extensions(field)
        shape = self.shape(field, used)
        if field.enum:
            shape = shape | {"enum": list(field.enum)}
        if "$ref" not in shape:
            return result | shape
        if self.version == 3 and result:
            return result | {"allOf": [shape]}
        return result | shape

    def _extensions(self, field: TypeSchema) -> dict[str, Any]:
        go: GoField = field.extra
        result: dict[str, Any] = {}
        if go.list_type_given:
            result["x-kubernetes-list-type"] = field.list_type
            if field.map_keys:
                result["x-kubernetes-list-map-keys"] = list(field.map_keys)
        if field.patch_merge_key:
            result["x-kubernetes-patch-merge-key"] = field.patch_merge_key
        if field.patch_strategy:
            result["x-kubernetes-patch-strategy"] = ",".join(field.patch_strategy)
        if go.granular_given or (field.kind == "map" and field.atomic):
            result["x-kubernetes-map-type"] = "granular" if go.granular_given else "atomic"
        return result

    def shape(self, node: TypeSchema, used: set[str]) -> dict[str, Any]:
        """The type alone: a reference for everything that has a definition."""
        go: GoField = node.extra
        if go.special == "bytes":
            return {"type": "string", "format": "byte"}
        name = _SPECIAL_NAMES.get(go.special, "") or (node.name if node.kind == "object" else "")
        if name:
            used.add(name)
            return self.ref(name)
        if node.kind == "list":
            assert node.element is not None
            return {"type": "array", "items": self.shape(node.element, used)}
        if node.kind == "map":
            assert node.element is not None
            return {"type": "object", "additionalProperties": self.shape(node.element, used)}
        result: dict[str, Any] = {"type": node.kind}
        if node.format:
            result["format"] = node.format
        return result


def field_default(field: TypeSchema) -> Any:
    """The default as openapi-gen writes it: markers, and Go's zero for what is always there."""
    go: GoField = field.extra
    if field.default is not NO_DEFAULT:
        return field.default
    if go.pointer or go.special:
        return NO_DEFAULT
    if field.kind == "object":
        return {}
    if field.kind in _ZERO and not field.omit_empty:
        return _ZERO[field.kind]
    return NO_DEFAULT
