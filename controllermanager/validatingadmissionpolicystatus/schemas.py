"""Types of kinds: built-in ones from facts, others as the API server publishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.schema import GroupVersionKind, GroupVersionResource
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apis.schemas import definition, for_gvk
from pilothouse.cel.schema_types import built_in_type, declared
from pilothouse.cel.types import Field, object_of
from pilothouse.controllermanager.validatingadmissionpolicystatus.typechecking import (
    MAX_TYPES,
    Kind,
    named_resources,
)

if TYPE_CHECKING:
    from typing import Any

    from pilothouse.apimachinery.object import Obj
    from pilothouse.cel.types import Type
    from pilothouse.kubeclient.interfaces import Client

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_GVK = "x-kubernetes-group-version-kind"


class SchemaResolver:
    """Reads the documents of group versions that are not built in, each once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._documents: dict[str, Any] = {}

    async def kinds(self, spec: Obj) -> list[Kind]:
        """The types of what the policy's rules name, as far as there are such."""
        found: dict[GroupVersionKind, Type] = {}
        counts: dict[int, int] = {}
        for rule, resource in named_resources(spec):
            for gvk in await self._kinds_of(resource):
                if counts.get(rule, 0) >= MAX_TYPES:
                    break
                counts[rule] = counts.get(rule, 0) + 1
                type_ = found.get(gvk) or await self.type_of(gvk)
                if type_ is not None:
                    found[gvk] = type_
        return [Kind(gvk, found[gvk]) for gvk in sorted(found)]

    async def _kinds_of(self, resource: GroupVersionResource) -> list[GroupVersionKind]:
        """An empty group stands for all, as it does for upstream's RESTMapper."""
        built_in = [
            row.gvk
            for row in BUILT_IN
            if row.name == resource.resource
            and row.version == resource.version
            and resource.group in ("", row.group)
        ]
        if built_in or not resource.group:
            return built_in
        listed = await self._document(f"/apis/{resource.group}/{resource.version}")
        return [
            GroupVersionKind(resource.group, resource.version, item.get("kind") or "")
            for item in listed.get("resources") or ()
            if item.get("name") == resource.resource
        ]

    async def type_of(self, gvk: GroupVersionKind) -> Type | None:
        schema = for_gvk(gvk)
        if schema is not None:
            return built_in_type(schema)
        if not gvk.group:
            return None
        document = await self._document(f"/openapi/v3/apis/{gvk.group}/{gvk.version}")
        wanted = {"group": gvk.group, "version": gvk.version, "kind": gvk.kind}
        for published in ((document.get("components") or {}).get("schemas") or {}).values():
            if wanted in (published.get(_GVK) or ()):
                return _published(published, gvk.kind)
        return None

    async def _document(self, path: str) -> Any:
        if path not in self._documents:
            try:
                self._documents[path] = await self._client.request("GET", path)
            except StatusError as error:
                if not is_not_found(error):
                    raise
                self._documents[path] = {}
        return self._documents[path]


def _published(schema: Obj, name: str) -> Type | None:
    """The type of a custom kind; its metadata is that of all objects."""
    found = declared(schema, root=True, name=name)
    if found is None:
        return None
    fields = dict(found.type.fields)
    fields["metadata"] = Field("metadata", built_in_type(definition(_OBJECT_META)))
    return object_of(name, fields)
