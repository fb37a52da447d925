"""Writes and reconciles the bootstrap roles and bindings.

At first start all are written at once, past the handlers: they are facts that need no admission
or validation, and a store with group commit takes them as one. Later starts only compare.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.authorization.bootstrap_policy import GROUP, bootstrap_objects
from pilothouse.apiserver.authorization.reconcile import (
    needs_recreation,
    reconciled_binding,
    reconciled_role,
)
from pilothouse.apiserver.registry.before import fill_system_fields
from pilothouse.apiserver.storage.errors import KeyExists
from pilothouse.apiserver.storage.versioner import encode

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.server import APIServer
    from pilothouse.kubeclient.interfaces import Client

_RESOURCES = {
    kind: GroupVersionResource(GROUP, "v1", f"{kind.lower()}s")
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
}
MANAGER = "kube-apiserver"


async def ensure_rbac(server: APIServer) -> None:
    """Idempotent; returns when every bootstrap object is in the store."""
    listers = server.listers
    await listers.ensure(*(resource.group_resource for resource in _RESOURCES.values()))
    missing: list[Obj] = []
    stale: list[tuple[Obj, Obj]] = []
    for expected in bootstrap_objects():
        metadata = expected["metadata"]
        existing = listers.get(
            _RESOURCES[expected["kind"]].group_resource,
            metadata.get("namespace") or "",
            metadata["name"],
        )
        if existing is None:
            missing.append(expected)
        else:
            stale.append((existing, expected))
    await asyncio.gather(*(_write(server, obj) for obj in missing))
    client = server.local_client(user_agent=MANAGER)
    for existing, expected in stale:
        await _reconcile(client, existing, expected)
    if server.authorizer.rbac_index is not None:
        server.authorizer.rbac_index.seal()


async def _write(server: APIServer, expected: Obj) -> None:
    obj = copy_object(expected)
    metadata = obj["metadata"]
    fill_system_fields(metadata, server.context)
    metadata["managedFields"] = managed_fields(obj, format_time(server.clock.now()))
    resource = _RESOURCES[obj["kind"]]
    served = server.registry.lookup(*resource)
    assert served is not None
    cacher = served.store.cacher
    key = served.key(metadata.get("namespace") or "", metadata["name"])
    data = encode(obj)
    cacher.remember(key, data, obj)
    try:
        revision = await server.storage.create(key, data)
    except KeyExists:
        return  # another server of this cluster was faster
    cacher.written(key, data, revision)


def managed_fields(obj: Obj, time: str) -> list[Obj]:
    """What an Update by the API server owns: all lists in these kinds are atomic."""
    metadata: Obj = {
        f"f:{field}": {".": {}, **{f"f:{key}": {} for key in obj["metadata"][field]}}
        for field in ("annotations", "labels")
    }
    fields: Obj = {"f:metadata": metadata}
    if "roleRef" in obj:
        fields["f:roleRef"] = {}
    for field in ("subjects", "rules"):
        if obj.get(field):
            fields[f"f:{field}"] = {}
    if "aggregationRule" in obj:
        fields["f:aggregationRule"] = {".": {}, "f:clusterRoleSelectors": {}}
    return [
        {
            "manager": MANAGER,
            "operation": "Update",
            "apiVersion": obj["apiVersion"],
            "time": time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
    ]


async def _reconcile(client: Client, existing: Obj, expected: Obj) -> None:
    kind = expected["kind"]
    resource, metadata = _RESOURCES[kind], expected["metadata"]
    if kind in ("ClusterRole", "Role"):
        wanted = reconciled_role(existing, expected)
    elif needs_recreation(existing, expected):
        await client.delete(resource, metadata["name"], metadata.get("namespace") or "")
        await client.create(resource, copy_object(expected), metadata.get("namespace") or "")
        return
    else:
        wanted = reconciled_binding(existing, expected)
    if wanted is None:
        return
    try:
        await client.update(resource, copy_object(wanted))
    except StatusError as error:
        if not is_not_found(error):
            raise
        await client.create(resource, copy_object(expected), metadata.get("namespace") or "")
