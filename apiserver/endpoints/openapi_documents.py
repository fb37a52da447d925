"""Builds the OpenAPI content of one group version: definitions, custom kinds, paths.

Shared by v2 and v3. A custom resource brings the schema of its CRD (``openapi_schema`` of what
the registry serves); kind, apiVersion and metadata are put in, and a list kind is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apis.schemas import kinds_of_definition, upstream_version
from pilothouse.apiserver.endpoints.openapi_facts import SCHEME_VERSIONS
from pilothouse.apiserver.endpoints.openapi_paths import META, PathWriter
from pilothouse.apiserver.endpoints.openapi_root import (
    VERSION_DEFINITION,
    root_definition,
    root_path,
    version_definition,
)
from pilothouse.apiserver.endpoints.openapi_schemas import (
    GVK_EXTENSION,
    SchemaWriter,
    descriptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apis.resource import Resource

OBJECT_META = f"{META}.ObjectMeta"
LIST_META = f"{META}.ListMeta"
GZIP_ABOVE = 1400
"""Bytes; kube-openapi packs documents sooner than the API its objects."""
_SELECTABLE = "x-kubernetes-selectable-fields"
_EVERY_GROUP = (f"{META}.DeleteOptions", f"{META}.WatchEvent")


def document_version() -> str:
    """The version that documents tell: major and minor."""
    return ".".join(upstream_version().removeprefix("v").split(".")[:2])


def definition_name(row: Resource) -> str:
    """Of a custom kind: the reversed group, the version and the kind."""
    if row.definition:
        return row.definition
    return ".".join([*reversed(row.group.split(".")), row.version, row.kind])


class DocumentBuilder:
    """Collects the schemas and paths of group versions in one dialect."""

    def __init__(self, version: int) -> None:
        self.writer = SchemaWriter(version)
        self.schemas: dict[str, dict[str, Any]] = {}
        self.paths: dict[str, dict[str, Any]] = {}
        self._pending: set[str] = set()
        self._group_versions: Iterable[tuple[str, str]] = SCHEME_VERSIONS
        """What DeleteOptions and WatchEvent are kinds of."""

    def add(self, group: str, version: str, served: Iterable[Any]) -> None:
        from dataclasses import replace

        served = list(served)
        if self.writer.version == 3 and all(each.resource.custom for each in served):
            known = (gv for gv in SCHEME_VERSIONS if gv[0] not in _OTHER_SCHEMES)
            self._group_versions = list(known)
        elif self.writer.version == 3:
            self._group_versions = sorted({("", "v1"), (group, version)})
        rows: list[Resource] = []
        for each in served:
            row: Resource = each.resource
            if row.custom or not row.definition:
                row = replace(row, definition=definition_name(row), custom=True)
                self._add_custom(row, getattr(each, "openapi_schema", None))
            rows.append(row)
        paths = PathWriter(group, version, self.writer.ref)
        self.paths |= paths.write(rows)
        self._pending |= paths.used
        self._close()

    def _close(self) -> None:
        """Writes definitions until nothing refers to one that is missing."""
        while self._pending:
            name = self._pending.pop()
            if name in self.schemas:
                continue
            self.schemas[name], used = self.writer.write(name, self._kinds(name))
            self._pending |= used

    def _kinds(self, name: str) -> list[tuple[str, str, str]]:
        if name in _EVERY_GROUP:
            kind = name.rpartition(".")[2]
            return [(group, version, kind) for group, version in self._group_versions]
        return kinds_of_definition(name)

    def add_root(self, name: str) -> None:
        """A path that is no resource's (``openapi_root.py``)."""
        self.paths |= root_path(name, self.writer.ref)
        used = root_definition(name)
        if used == VERSION_DEFINITION:
            self.schemas[used] = version_definition(self.writer.version)
        elif used:
            self._pending.add(used)
        self._close()

    def _add_custom(self, row: Resource, schema: dict[str, Any] | None) -> None:
        gvk = {"group": row.group, "kind": row.kind, "version": row.version}
        body: dict[str, Any] = dict(schema) if schema else {"type": "object"}
        # Where v2 has any property, kubectl takes all others for unknown.
        free = not schema or (
            self.writer.version == 2 and bool(body.get("x-kubernetes-preserve-unknown-fields"))
        )
        if free:
            body = {key: body[key] for key in body if key == _SELECTABLE}
        body["type"] = "object"
        if not free:
            own = self._type_meta(OBJECT_META)
            body["properties"] = own | {
                key: value for key, value in body.get("properties", {}).items() if key not in own
            }
        body = self._dialect(body)
        self._embed(body)
        body[GVK_EXTENSION] = [gvk]
        self.schemas[row.definition] = body
        list_kind = row.list_kind or f"{row.kind}List"
        self.schemas[f"{row.definition}List"] = {
            "description": f"{list_kind} is a list of {row.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {
                **self._type_meta(LIST_META),
                "items": {
                    "description": f"List of {row.name}.",
                    "type": "array",
                    "items": self.writer.ref(row.definition),
                },
            },
            GVK_EXTENSION: [gvk | {"kind": list_kind}],
            **({_SELECTABLE: body[_SELECTABLE]} if _SELECTABLE in body else {}),
        }
        self._pending |= {OBJECT_META, LIST_META}

    def _type_meta(self, metadata: str) -> dict[str, Any]:
        """apiVersion, kind and metadata with upstream's descriptions (a Pod's are the same)."""
        sample = "io.k8s.api.core.v1.PodList" if metadata == LIST_META else "io.k8s.api.core.v1.Pod"
        facts = descriptions().get(sample, {}).get("properties", {})

        def text(key: str) -> dict[str, Any]:
            found = facts.get(key, {}).get("description")
            return {"description": found} if found else {}

        reference = self.writer.ref(metadata)
        shown = text("metadata")
        if self.writer.version == 3 and shown:
            reference = {"allOf": [reference]}
        return {
            "apiVersion": text("apiVersion") | {"type": "string"},
            "kind": text("kind") | {"type": "string"},
            "metadata": shown | reference,
        }

    def _embed(self, schema: dict[str, Any]) -> None:
        """What upstream adds: whole resources inside of one say what they are, values that may be
        two things name both."""
        inner = [*schema.get("properties", {}).values()]
        inner += [schema.get("items"), schema.get("additionalProperties")]
        for each in inner:
            if isinstance(each, dict):
                self._embed(each)
        if schema.get("x-kubernetes-int-or-string") and self.writer.version == 3:
            schema.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
        free = schema.get("x-kubernetes-preserve-unknown-fields") and self.writer.version == 2
        if not schema.get("x-kubernetes-embedded-resource") or free:
            return
        schema["properties"] = {**schema.get("properties", {}), **self._type_meta(OBJECT_META)}
        required = list(schema.get("required") or ())
        added = [key for key in ("kind", "apiVersion") if key not in required]
        schema["required"] = required + added

    def _dialect(self, schema: Any) -> Any:
        """v2 knows neither nullable nor any/all/oneOf: they are left out, as upstream does."""
        if self.writer.version == 3:
            return schema
        return _to_v2(schema)


_OTHER_SCHEMES = frozenset(
    ("admission.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "imagepolicy.k8s.io")
)
"""What upstream's extension server, which documents custom resources, knows nothing of."""
_NOT_IN_V2 = frozenset({"nullable", "oneOf", "anyOf", "allOf", "not", "x-kubernetes-validations"})


def _to_v2(schema: dict[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key not in _NOT_IN_V2}
    free = schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("x-kubernetes-int-or-string") or schema.get("nullable"):
        for key in ("type", "items", "properties"):
            result.pop(key, None)
    elif free:
        # Client-side validation of v2 would refuse the unknown fields that the server keeps.
        for key in ("type", "items", "properties"):
            result.pop(key, None)
    if isinstance(result.get("properties"), dict):
        result["properties"] = {
            key: _to_v2(value) if isinstance(value, dict) else value
            for key, value in result["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict) and "$ref" not in result[key]:
            result[key] = _to_v2(result[key])
    return result
