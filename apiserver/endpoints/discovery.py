"""Discovery documents: which groups, versions and resources there are.

``/api``, ``/apis`` and the documents below them, in the old form and, for ``/api`` and ``/apis``,
as one aggregated document when the Accept header asks for it. Everything is made from the rows
of the resource registry and kept as bytes until the registry's generation changes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from pilothouse.apimachinery.errors import new_generic_not_found, new_not_acceptable
from pilothouse.apiserver.aggregator.priorities import CUSTOM_PRIORITY, PRIORITIES
from pilothouse.apiserver.endpoints.negotiation import (
    JSON,
    SUPPORTED,
    check_route,
    method_not_allowed,
    negotiate,
)
from pilothouse.apiserver.endpoints.responses import dump
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pilothouse.apis.resource import Resource, Subresource
    from pilothouse.apiserver.aggregator.remote_discovery import RemoteEntry

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_KUBE_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")


class Served(Protocol):
    """What discovery reads of a served resource."""

    resource: Resource


class Registry(Protocol):
    generation: int

    def all(self) -> Iterable[Any]: ...


class Remote(Protocol):
    """The group versions of extension servers (``aggregator/aggregator.py``)."""

    generation: int

    def entries(self) -> Iterable[RemoteEntry]: ...


def kube_version_key(version: str) -> tuple[int, int, int, int, str]:
    """Sorts ``v2, v1, v1beta2, v1beta1, v1alpha1`` first and other names last, by name."""
    match = _KUBE_VERSION.fullmatch(version)
    if match is None:
        return (1, 0, 0, 0, version)
    stability = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (0, stability, -int(match[1]), -int(match[3] or 0), "")


@lru_cache(maxsize=1024)
def storage_version_hash(group: str, version: str, kind: str) -> str:
    digest = hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


class _Snapshot:
    """The documents of one generation, encoded when first asked for. A remote group version
    stands in the place of a local one."""

    def __init__(self, registry: Registry, remote: Remote | None) -> None:
        self.generation = _generation(registry, remote)
        self.groups: dict[str, dict[str, list[Resource]]] = {}
        self.remote: dict[tuple[str, str], RemoteEntry] = {}
        for served in registry.all():
            row = served.resource
            self.groups.setdefault(row.group, {}).setdefault(row.version, []).append(row)
        for entry in remote.entries() if remote is not None else ():
            self.groups.setdefault(entry.group, {})[entry.version] = []
            self.remote[entry.group, entry.version] = entry
        self.order = sorted(self.groups, key=self._group_key)
        self.bodies: dict[str, tuple[bytes, str]] = {}

    def _group_key(self, group: str) -> tuple[int, str]:
        """The group's priority is the highest that one of its versions gives it."""
        priorities = [
            self.remote[group, version].group_priority
            if (group, version) in self.remote
            else PRIORITIES.get(group, CUSTOM_PRIORITY)[0]
            for version in self.groups[group]
        ]
        return (-max(priorities), group)

    def _version_key(self, group: str, version: str) -> tuple[Any, ...]:
        entry = self.remote.get((group, version))
        if entry is not None:
            priority = entry.version_priority
        elif group in PRIORITIES:
            priority = PRIORITIES[group][1].get(version, 0)
        else:
            priority = CUSTOM_PRIORITY[1]
        return (-priority, *kube_version_key(version))

    def versions(self, group: str) -> list[str]:
        return sorted(self.groups[group], key=lambda version: self._version_key(group, version))

    def is_routed(self, path: str) -> bool:
        """Whether upstream's router has it, which looks at method and Accept header; the
        aggregator answers ``/apis`` and groups, and custom groups are nobody's route."""
        parts = path.strip("/").split("/")
        group, version = ("", parts[-1]) if parts[0] == "api" else [*parts[1:], "", ""][:2]
        if path == "/api":
            return True
        if (group, version) in self.remote or version not in self.groups.get(group, {}):
            return False
        return not any(row.custom for row in self.groups[group][version])

    def rows(self, group: str, version: str) -> list[Resource]:
        return sorted(self.groups[group][version], key=lambda row: row.name)


def _generation(registry: Registry, remote: Remote | None) -> tuple[int, int]:
    return registry.generation, remote.generation if remote is not None else 0


class Discovery:
    """Answers GETs below ``/api`` and ``/apis`` that name no resource.

    ``server_address`` is the host and port that ``/api`` tells clients.
    """

    def __init__(
        self, registry: Registry, *, server_address: str = "", remote: Remote | None = None
    ) -> None:
        self._registry = registry
        self.remote = remote
        """Who tells about extension servers; it may come later."""
        self._snapshot: _Snapshot | None = None
        self.server_address = server_address

    def respond(self, path: str, headers: Mapping[str, str], method: str = "GET") -> Response:
        """``headers`` have lower-case names. :raises StatusError: 404, no such group or version;
        405 and 406 where upstream's router or its negotiation refuse."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.generation != _generation(self._registry, self.remote):
            snapshot = self._snapshot = _Snapshot(self._registry, self.remote)
        path = path.rstrip("/")
        aggregated = path in ("/api", "/apis") and wants_aggregated(headers.get("accept", ""))
        key = f"{path}#aggregated" if aggregated else path
        found = snapshot.bodies.get(key)
        if found is None:
            document = self._document(snapshot, path, aggregated)
            body = orjson.dumps(document)
            etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
            found = snapshot.bodies[key] = (body, etag)
        accept = headers.get("accept", "")
        if snapshot.is_routed(path):
            if method != "GET":
                raise method_not_allowed()
            check_route(accept, False)
        if aggregated or not accept:
            return _answer(*found, aggregated=aggregated, headers=headers)
        negotiated = negotiate(accept)
        if negotiated.transform:
            raise new_not_acceptable(SUPPORTED)
        if negotiated.media_type != JSON:
            whole = {"apiVersion": "v1"} | orjson.loads(found[0])
            return dump(whole, 200, negotiated.media_type)
        return _answer(*found, aggregated=False, headers=headers)

    def _document(self, snapshot: _Snapshot, path: str, aggregated: bool) -> dict[str, Any]:
        parts = path.strip("/").split("/")
        if aggregated:
            groups = [""] if path == "/api" else [g for g in snapshot.order if g]
            return _aggregated(snapshot, [g for g in groups if g in snapshot.groups])
        if path == "/api":
            return self._api_versions(snapshot)
        if path == "/apis":
            listed = [_group(snapshot, g) for g in snapshot.order if g]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        group = "" if parts[0] == "api" else parts[1]
        version = parts[-1] if len(parts) == (2 if parts[0] == "api" else 3) else ""
        if len(parts) > 3 or group not in snapshot.groups or (parts[0] == "apis" and not group):
            raise new_generic_not_found()
        if parts[0] == "apis" and len(parts) == 2:
            return {"kind": "APIGroup", "apiVersion": "v1"} | _group(snapshot, group)
        if version not in snapshot.groups[group]:
            raise new_generic_not_found()
        return _resource_list(snapshot, group, version)

    def _api_versions(self, snapshot: _Snapshot) -> dict[str, Any]:
        return {
            "kind": "APIVersions",
            "versions": snapshot.versions("") if "" in snapshot.groups else [],
            "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": self.server_address}
            ],
        }


@lru_cache(maxsize=64)
def wants_aggregated(accept: str) -> bool:
    """The first clause of Accept that the server can give decides."""
    for clause in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in clause.split(";"))
        given = dict(part.partition("=")[::2] for part in parameters)
        if media_type not in ("application/json", "application/*", "*/*"):
            continue
        if not given.get("as"):
            return False
        if (given.get("g"), given.get("v"), given["as"]) == (
            "apidiscovery.k8s.io",
            "v2",
            "apigroupdiscoverylist",
        ):
            return True
    return False


def _answer(body: bytes, etag: str, *, aggregated: bool, headers: Mapping[str, str]) -> Response:
    if not aggregated:
        return Response(body=body)
    answer_headers = [("ETag", etag), ("Vary", "Accept"), ("Cache-Control", "public")]
    if headers.get("if-none-match") == etag:
        # Clients put a 304's headers over those they kept: the type must stay the same.
        return Response(status=304, content_type=AGGREGATED_TYPE, headers=answer_headers)
    return Response(body=body, content_type=AGGREGATED_TYPE, headers=answer_headers)


def _group_version(group: str, version: str) -> dict[str, str]:
    return {"groupVersion": f"{group}/{version}" if group else version, "version": version}


def _group(snapshot: _Snapshot, group: str) -> dict[str, Any]:
    versions = [_group_version(group, version) for version in snapshot.versions(group)]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _ordered(row: Resource) -> Sequence[Subresource]:
    """By name; those of custom resources as their definition lists them."""
    return row.subresources if row.custom else sorted(row.subresources, key=lambda sub: sub.name)


def _resource_list(snapshot: _Snapshot, group: str, version: str) -> dict[str, Any]:
    head: dict[str, Any] = {"kind": "APIResourceList"}
    if group:
        head["apiVersion"] = "v1"
    entries: list[dict[str, Any]] = []
    for row in snapshot.rows(group, version):
        entries.append(_resource_entry(row))
        subresources = _ordered(row)
        entries += [_subresource_entry(row, sub) for sub in subresources]
    return head | {
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": entries,
    }


def _resource_entry(row: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": row.name,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if {"list", "create"} <= set(row.verbs):
        group = row.group if row.storage_group is None else row.storage_group
        version = row.extra.get("storage_hash_version") or row.storage_version or row.version
        entry["storageVersionHash"] = storage_version_hash(group, str(version), row.kind)
    return entry


def _subresource_entry(row: Resource, sub: Subresource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": f"{row.name}/{sub.name}",
        "singularName": "",
        "namespaced": row.namespaced,
    }
    if sub.kind_group is not None:
        entry["group"] = sub.kind_group
        entry["version"] = sub.kind_version
    return entry | {"kind": sub.kind, "verbs": list(sub.verbs)}


def _aggregated(snapshot: _Snapshot, groups: list[str]) -> dict[str, Any]:
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    _aggregated_version(snapshot, group, version)
                    for version in snapshot.versions(group)
                ],
            }
            for group in groups
        ],
    }


def _aggregated_version(snapshot: _Snapshot, group: str, version: str) -> dict[str, Any]:
    remote = snapshot.remote.get((group, version))
    if remote is not None:
        return remote.document
    return {
        "version": version,
        "resources": [_aggregated_entry(row) for row in snapshot.rows(group, version)],
        "freshness": "Current",
    }


def _response_kind(row: Resource, kind: str, sub: Subresource | None = None) -> dict[str, str]:
    """Built-in servers leave group and version empty when they are the parent's."""
    group, version = (row.group, row.version) if row.custom else ("", "")
    if sub is not None and sub.kind_group is not None:
        group, version = sub.kind_group, sub.kind_version or ""
    return {"group": group, "version": version, "kind": kind}


def _aggregated_entry(row: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": row.name,
        "responseKind": _response_kind(row, row.kind),
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if row.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": _response_kind(row, sub.kind, sub),
                "verbs": list(sub.verbs),
            }
            for sub in _ordered(row)
        ]
    return entry
