"""A row of the resource table: what one served resource is called and what it can do.

``apis/resources.py`` holds the rows of all built-in kinds; a CRD makes the same rows at run time.
Routes, discovery, OpenAPI paths, REST mapping and storage keys are all read from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pilothouse.apimachinery.schema import (
    GroupResource,
    GroupVersionKind,
    GroupVersionResource,
)

ALL_VERBS = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)


@dataclass(frozen=True, slots=True)
class Subresource:
    """``kind_*`` name what it answers with; empty group and version mean the parent's."""

    name: str
    kind: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    kind_group: str | None = None
    kind_version: str | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    group: str
    version: str
    name: str
    """Plural, as in the path: ``pods``."""
    kind: str
    singular: str
    namespaced: bool
    verbs: tuple[str, ...] = ALL_VERBS
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    definition: str = ""
    """OpenAPI definition name, e.g. ``io.k8s.api.core.v1.Pod``."""
    storage_version: str = ""
    """Version that is stored when it is not this one (``conversion.py`` goes between)."""
    storage_group: str | None = None
    """Group that is stored when it is not this one (events.k8s.io stores core Events)."""
    storage_prefix: str = ""
    """Key prefix without the trailing slash: ``/registry/pods``."""
    custom: bool = False
    list_kind: str = ""
    extra: dict[str, object] = field(default_factory=dict, compare=False)

    @property
    def gvr(self) -> GroupVersionResource:
        return GroupVersionResource(self.group, self.version, self.name)

    @property
    def gvk(self) -> GroupVersionKind:
        return GroupVersionKind(self.group, self.version, self.kind)

    @property
    def group_resource(self) -> GroupResource:
        return GroupResource(self.group, self.name)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version
