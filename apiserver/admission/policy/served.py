"""What policies read of their API server: namespaces, params, an object's other versions.

The shell around the pure parts: all I/O of a policy's evaluation happens here, before it.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, new_not_found
from pilothouse.apimachinery.schema import GroupVersionKind, GroupVersionResource, gvk_of
from pilothouse.apiserver.admission.plugin import NAMESPACES
from pilothouse.apiserver.admission.policy.matching import Equivalent, Question, namespace_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.admission.plugin import AdmissionContext
    from pilothouse.apiserver.registry.resources import ResourceRegistry, ServedResource

_NAMESPACE = GroupVersionKind("", "v1", "Namespace")
_NAMESPACES_V1 = GroupVersionResource("", "v1", "namespaces")


class ServedParams:
    """The objects of one served kind, as :class:`~.params.ParamStore`."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self.namespaced = served.namespaced

    async def get(self, namespace: str, name: str) -> Obj | None:
        store = self._served.store
        key = self._served.key(namespace, name)
        entry = await store.live(key)
        if entry is None:
            # The cache may lag behind a store of another process.
            entry = await store.read(key)
        return None if entry is None else self._shown(entry.obj)

    async def list(self, namespace: str) -> Iterable[Obj]:
        cacher = self._served.store.cacher
        await cacher.ensure_ready()
        entries, _, _ = cacher.list(self._served.list_prefix(namespace))
        return [self._shown(entry.obj) for entry in entries]

    def _shown(self, obj: Obj) -> Obj:
        converter = self._served.converter
        return obj if converter is None else converter.from_storage(obj)


class ServedView:
    """Everything of one server that the policy plugins ask for."""

    def __init__(self, context: AdmissionContext) -> None:
        self._context = context
        self._equivalents: dict[tuple[GroupVersionResource, str], tuple[Equivalent, ...]] = {}
        self._generation = -1

    @property
    def registry(self) -> ResourceRegistry | None:
        return self._context.hooks.registry

    # namespaces

    async def namespace(self, name: str) -> Obj:
        """:raises StatusError: 404."""
        found = self._context.listers.get(NAMESPACES, "", name)
        if found is not None:
            return found
        client = self._context.hooks.client
        if client is None:
            raise new_not_found(NAMESPACES, name)
        return await client.get(_NAMESPACES_V1, name)

    async def namespace_of(self, attributes: Attributes) -> Obj | None:
        """For ``namespaceObject``. :raises StatusError: 404."""
        if not attributes.namespace or attributes.kind == _NAMESPACE:
            return None
        return await self.namespace(attributes.namespace)

    async def question(self, attributes: Attributes) -> Question:
        labels = await self._namespace_labels(attributes)
        equivalents = self.equivalents(attributes.resource, attributes.subresource)
        return Question(attributes, labels, equivalents)

    async def _namespace_labels(
        self, attributes: Attributes
    ) -> Mapping[str, str] | StatusError | None:
        of_namespaces = attributes.resource.resource == "namespaces"
        name = namespace_of(attributes)
        if not name and not of_namespaces:
            return None
        if of_namespaces and not attributes.subresource and attributes.obj is not None:
            # The cache does not have what this request is about to write.
            return _labels(attributes.obj)
        try:
            return _labels(await self.namespace(name))
        except StatusError as error:
            return error

    # versions

    def equivalents(
        self, resource: GroupVersionResource, subresource: str = ""
    ) -> tuple[Equivalent, ...]:
        """The resources (this one too) over the same stored objects."""
        registry = self.registry
        if registry is None:
            return ()
        if registry.generation != self._generation:
            self._equivalents.clear()
            self._generation = registry.generation
        key = (resource, subresource)
        found = self._equivalents.get(key)
        if found is None:
            found = self._equivalents[key] = tuple(_equivalents(registry, resource, subresource))
        return found

    async def convert(self, obj: Obj, kind: GroupVersionKind) -> Obj:
        """``obj`` as ``kind`` has it; itself when it is that. :raises StatusError: it can't be."""
        own = gvk_of(obj)
        registry = self.registry
        if own == kind or registry is None or not obj.get("kind"):
            return obj
        target = registry.by_kind(kind)
        source = registry.by_kind(own)
        if target is None or source is None:
            return obj
        custom = getattr(target, "kind", None)
        if custom is not None:
            converted = custom.converter.convert(obj, kind.api_version)
            return await converted if isawaitable(converted) else converted  # type: ignore[no-any-return]
        stored = obj if source.converter is None else source.converter.to_storage(obj)
        return stored if target.converter is None else target.converter.from_storage(stored)

    def schema_of(self, kind: GroupVersionKind) -> TypeSchema | None:
        """The type of a kind that is served or built in."""
        registry = self.registry
        served = None if registry is None else registry.by_kind(kind)
        if served is not None:
            return served.schema
        from pilothouse.apis.schemas import for_gvk

        return for_gvk(kind)

    # params

    def params_of(self, kind: GroupVersionKind) -> ServedParams | None:
        registry = self.registry
        served = None if registry is None else registry.by_kind(kind)
        if served is None or not {"get", "list", "watch"} <= served.verbs:
            return None
        return ServedParams(served)


def _labels(obj: Obj) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def _equivalents(
    registry: ResourceRegistry, resource: GroupVersionResource, subresource: str
) -> Iterable[Equivalent]:
    own = registry.lookup(resource.group, resource.version, resource.resource)
    if own is None:
        return
    for served in registry.all():
        if served.prefix != own.prefix:
            continue
        if not subresource:
            yield Equivalent(served.gvr, served.gvk)
            continue
        sub = served.subresources.get(subresource)
        if sub is not None:
            group = served.gvk.group if sub.kind_group is None else sub.kind_group
            version = served.gvk.version if sub.kind_version is None else sub.kind_version
            yield Equivalent(served.gvr, GroupVersionKind(group, version, sub.kind))
