"""A CRD as served resources: one per served version, in discovery, OpenAPI and the registry.

A :class:`CustomKind` is made of one state of a CRD's spec and accepted names; whatever changes
there makes a new one. It holds the CRD's bytes and compiles what is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apis.resource import ALL_VERBS, Resource, Subresource
from pilothouse.apiserver.apiextensions import conditions
from pilothouse.apiserver.apiextensions.conversion import converter_for
from pilothouse.apiserver.endpoints.discovery import kube_version_key
from pilothouse.apiserver.registry.resources import ServedResource

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.apiextensions.object_schema import ObjectSchema
    from pilothouse.apiserver.apiextensions.store import CustomStore
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.store import Admission
    from pilothouse.apiserver.storage.interfaces import Storage

# In upstream's order, which clients show.
_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_TERMINATING_VERBS = ("delete", "deletecollection", "get", "list", "watch")


class CustomServedResource(ServedResource):
    """A version of a custom kind. ``openapi_schema`` is what the CRD's author wrote."""

    def __init__(self, kind: CustomKind, version: Obj, row: Resource) -> None:
        super().__init__(
            row,
            load_schema=lambda: kind.schemas[row.version].node,
            load_strategy=lambda: kind.strategy(row.version),
            load_store=kind.store,
        )
        self.kind = kind
        # Discovery says less while the CRD goes away, but finalizers must be removable.
        self.verbs = frozenset(ALL_VERBS)
        self.warnings = _deprecation(kind.crd_head, version)

    @property
    def openapi_schema(self) -> dict[str, Any] | None:
        version = self.kind.version(self.resource.version)
        schema: dict[str, Any] | None = (version.get("schema") or {}).get("openAPIV3Schema")
        fields = version.get("selectableFields")
        if schema is not None and fields:
            paths = [{"fieldPath": field["jsonPath"].removeprefix(".")} for field in fields]
            schema["x-kubernetes-selectable-fields"] = paths
        return schema


class CustomKind:
    """``data`` is the CRD as it is stored; ``terminating`` may change later."""

    def __init__(
        self,
        crd: Obj,
        data: bytes,
        storage: Storage,
        context: RegistryContext,
        admission: Admission,
    ) -> None:
        self.data = data
        self._storage = storage
        self._context = context
        self._admission = admission
        spec = crd["spec"]
        self.identity = identity(crd)
        self.name: str = crd["metadata"]["name"]
        self.namespaced = spec.get("scope") == "Namespaced"
        self.storage_version = conditions.storage_version(crd)
        self.migrating = len(conditions.stored_versions(crd)) > 1
        self.terminating = bool(crd["metadata"].get("deletionTimestamp"))
        self.converter = converter_for(crd, context)
        self.crd_head = {
            "group": spec["group"],
            "kind": spec["names"]["kind"],
            "versions": [
                (v["name"], bool(v.get("served")), bool(v.get("deprecated")))
                for v in spec["versions"]
            ],
        }
        self.schemas: dict[str, ObjectSchema] = _Schemas(self)
        self._strategies: dict[str, Any] = {}
        self._stores: dict[str, CustomStore] = {}
        self.served = self._rows(crd)

    def _rows(self, crd: Obj) -> list[CustomServedResource]:
        return [
            CustomServedResource(self, version, self._row(crd, version))
            for version in crd["spec"]["versions"]
            if version.get("served")
        ]

    def _row(self, crd: Obj, version: Obj) -> Resource:
        names = (crd.get("status") or {}).get("acceptedNames") or crd["spec"]["names"]
        subresources = version.get("subresources") or {}
        found: list[Subresource] = []
        extra: dict[str, object] = {"storage_hash_version": self.storage_version}
        if subresources.get("status") is not None:
            found.append(Subresource("status", names["kind"]))
        if subresources.get("scale") is not None:
            found.append(Subresource("scale", "Scale", kind_group="autoscaling", kind_version="v1"))
            extra["scale"] = subresources["scale"]
        return Resource(
            group=crd["spec"]["group"],
            version=version["name"],
            name=names["plural"],
            kind=names["kind"],
            singular=names["singular"],
            namespaced=self.namespaced,
            verbs=_TERMINATING_VERBS if self.terminating else _VERBS,
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=tuple(found),
            custom=True,
            list_kind=names["listKind"],
            extra=extra,
        )

    def storage_store(self) -> CustomStore:
        """The store of the storage version, whether that is served or not."""
        for served in self.served:
            if served.gvr.version == self.storage_version:
                return self.store(served)
        crd = orjson.loads(self.data)
        version = self.version(self.storage_version)
        return self.store(CustomServedResource(self, version, self._row(crd, version)))

    def terminate(self, crd: Obj) -> list[CustomServedResource]:
        """The CRD is being deleted: new rows over the same stores."""
        self.terminating = True
        self.served = self._rows(crd)
        return self.served

    def raw_schema(self, version: str) -> dict[str, Any] | None:
        """``openAPIV3Schema``, decoded anew: it is not kept."""
        found: dict[str, Any] | None = (self.version(version).get("schema") or {}).get(
            "openAPIV3Schema"
        )
        return found

    def version(self, name: str) -> Obj:
        """An item of ``spec.versions``, decoded anew."""
        for version in orjson.loads(self.data)["spec"]["versions"]:
            if version["name"] == name:
                found: Obj = version
                return found
        return {}

    def strategy(self, version: str) -> Any:
        strategy = self._strategies.get(version)
        if strategy is None:
            from pilothouse.apiserver.apiextensions.strategy import CustomResourceStrategy

            strategy = self._strategies[version] = CustomResourceStrategy(
                self.version(version), self.schemas[version], namespaced=self.namespaced
            )
        return strategy

    def store(self, served: ServedResource) -> CustomStore:
        version = served.gvr.version
        store = self._stores.get(version)
        if store is None:
            from pilothouse.apiserver.apiextensions.store import CustomStore

            store = self._stores[version] = CustomStore(
                self, served, self._storage, self._context, self._admission
            )
        return store

    async def close(self) -> None:
        """Ends caches and watches."""
        for store in self._stores.values():
            await store.close()


class _Schemas(dict[str, Any]):
    """Schemas by version, made when first asked for."""

    def __init__(self, kind: CustomKind) -> None:
        super().__init__()
        self._kind = kind
        self._known = {name for name, _, _ in kind.crd_head["versions"]}

    def __missing__(self, version: str) -> ObjectSchema:
        from pilothouse.apiserver.apiextensions.object_schema import ObjectSchema

        if version not in self._known:
            raise KeyError(version)
        kind = self._kind
        schema = self[version] = ObjectSchema(lambda: kind.raw_schema(version))
        return schema

    def get(self, version: str, default: Any = None) -> Any:
        return self[version] if version in self._known else default


def identity(crd: Obj) -> tuple[str, bytes]:
    """What a served kind is made of: a change of anything else changes nothing."""
    names = (crd.get("status") or {}).get("acceptedNames")
    content = [crd["spec"], names, conditions.stored_versions(crd)]
    from hashlib import sha256

    digest = sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()
    return crd["metadata"].get("uid") or "", digest


def _deprecation(head: dict[str, Any], version: Obj) -> tuple[str, ...]:
    if not version.get("deprecated"):
        return ()
    if version.get("deprecationWarning") is not None:
        return (version["deprecationWarning"],)
    name, group, kind = version["name"], head["group"], head["kind"]
    text = f"{group}/{name} {kind} is deprecated"
    newer = [
        other
        for other, served, deprecated in head["versions"]
        if served and not deprecated and kube_version_key(other) < kube_version_key(name)
    ]
    if newer:
        text += f"; use {group}/{min(newer, key=kube_version_key)} {kind}"
    return (text,)
