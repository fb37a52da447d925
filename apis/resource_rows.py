"""Builders of table rows: what nearly all resources share is said once, here."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.apis.resource import ALL_VERBS, Resource, Subresource

SCALE = Subresource("scale", "Scale", kind_group="autoscaling", kind_version="v1")

_PREFIXES = {
    ("", "endpoints"): "services/endpoints",
    ("", "nodes"): "minions",
    ("", "replicationcontrollers"): "controllers",
    ("", "services"): "services/specs",
    ("networking.k8s.io", "ingresses"): "ingress",
}
"""Keys below ``/registry`` that are not the resource's name (SpecialDefaultResourcePrefixes)."""

_PREFIX_WITH_GROUP = ("apiextensions.k8s.io", "apiregistration.k8s.io")
"""Groups whose servers keep their objects below ``/registry/<group>/<resource>``."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    short: str
    categories: str
    subresources: tuple[Subresource | str, ...]
    storage_group: str | None
    storage_version: str
    hash_version: str


def row(
    name: str,
    kind: str,
    *,
    namespaced: bool = True,
    verbs: tuple[str, ...] = ALL_VERBS,
    short: str = "",
    categories: str = "",
    subresources: tuple[Subresource | str, ...] = (),
    storage_group: str | None = None,
    storage_version: str = "",
    hash_version: str = "",
) -> _Row:
    """``"status"`` stands for the usual status sub-resource. ``hash_version`` is the version
    that upstream stores, and only its storageVersionHash shows, when it serves no such version."""
    return _Row(
        name,
        kind,
        namespaced,
        verbs,
        short,
        categories,
        subresources,
        storage_group,
        storage_version,
        hash_version,
    )


def group(name: str, version: str, model: str, rows: list[_Row]) -> tuple[Resource, ...]:
    """The rows of one group version, whose definitions are called ``<model>.<Kind>``."""
    return tuple(_resource(name, version, model, each) for each in rows)


def _resource(group_name: str, version: str, model: str, row: _Row) -> Resource:
    prefix = _PREFIXES.get((group_name, row.name), row.name)
    if group_name in _PREFIX_WITH_GROUP:
        prefix = f"{group_name}/{row.name}"
    extra: dict[str, object] = {}
    if row.hash_version:
        extra["storage_hash_version"] = row.hash_version
    return Resource(
        group=group_name,
        version=version,
        name=row.name,
        kind=row.kind,
        singular=row.kind.lower(),
        namespaced=row.namespaced,
        verbs=row.verbs,
        short_names=tuple(row.short.split()),
        categories=tuple(row.categories.split()),
        subresources=tuple(
            Subresource(each, row.kind) if isinstance(each, str) else each
            for each in row.subresources
        ),
        definition=f"{model}.{row.kind}",
        storage_version=row.storage_version,
        storage_group=row.storage_group,
        storage_prefix=f"/registry/{prefix}" if {"list", "create"} <= set(row.verbs) else "",
        list_kind=f"{row.kind}List" if "list" in row.verbs else "",
        extra=extra,
    )
