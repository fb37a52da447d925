"""What an API server writes when it has started (pkg/controlplane, post-start hooks).

``run_bootstrap(server)`` is one post-start hook; each step is idempotent and reads the server's
own caches first, so that a second start writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_conflict
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.bootstrap.kubernetes_service import KubernetesService
from pilothouse.apiserver.bootstrap.objects import (
    CONFIG_MAPS,
    NAMESPACES,
    PRIORITY_CLASSES,
    SERVICE_CIDRS,
    SYSTEM_NAMESPACES,
    authentication_config_map,
    namespace,
    priority_classes,
    service_cidr,
    service_cidr_ready,
)
from pilothouse.apiserver.bootstrap.rbac import MANAGER, ensure_rbac

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupKind, GroupResource, GroupVersionResource
    from pilothouse.apiserver.server import APIServer
    from pilothouse.kubeclient.interfaces import Client

log = logging.getLogger(__name__)


async def run_bootstrap(server: APIServer) -> None:
    """Returns when all of them are there. Namespaces come first: the rest lives in them."""
    client = server.local_client(user_agent=MANAGER)
    server.admission.hooks.client = client
    server.admission.hooks.resources_for_kind = server_resources(server)
    server.kubernetes_service = KubernetesService(server)
    await ensure_namespaces(server, client)
    await asyncio.gather(
        ensure_rbac(server),
        ensure_priority_classes(server, client),
        ensure_service_cidr(server, client),
        ensure_authentication_config_map(server, client),
        server.kubernetes_service.start(),
    )
    if not server.storage.synchronous_watch:
        from pilothouse.apiserver.bootstrap.leases import IdentityLease

        server.tasks.start(IdentityLease(server).run(), "identity-lease")


def server_resources(
    server: APIServer,
) -> Callable[[GroupKind, str], list[tuple[GroupResource, bool]]]:
    """Finds the resources of a kind, for OwnerReferencesPermissionEnforcement."""

    def resources_for_kind(kind: GroupKind, version: str) -> list[tuple[GroupResource, bool]]:
        return [
            (served.group_resource, served.namespaced)
            for served in server.registry.all()
            if served.gvk.group_kind == kind and served.gvk.version == version
        ]

    return resources_for_kind


async def _create(client: Client, resource: GroupVersionResource, obj: Obj) -> None:
    try:
        await client.create(resource, obj, obj["metadata"].get("namespace") or "")
    except StatusError as error:
        if not is_already_exists(error):
            raise


async def _ensure(
    server: APIServer, client: Client, resource: GroupVersionResource, wanted: Obj
) -> Obj | None:
    """Creates ``wanted``; the object that was there already, or None."""
    metadata = wanted["metadata"]
    existing = server.listers.get(
        resource.group_resource, metadata.get("namespace") or "", metadata["name"]
    )
    if existing is None:
        await _create(client, resource, wanted)
    return existing


async def ensure_namespaces(server: APIServer, client: Client) -> None:
    """Also puts one back when it is deleted (only kube-node-lease can be)."""
    await server.listers.ensure(NAMESPACES.group_resource)
    await asyncio.gather(
        *(_ensure(server, client, NAMESPACES, namespace(name)) for name in SYSTEM_NAMESPACES)
    )

    def gone(event_type: str, obj: Obj, old: Obj | None) -> None:
        name = obj["metadata"]["name"]
        if event_type == "DELETED" and name in SYSTEM_NAMESPACES and server.ready:
            again = _create(client, NAMESPACES, namespace(name))
            server.tasks.start(again, f"namespace-{name}")

    server.listers.subscribe(NAMESPACES.group_resource, gone)


async def ensure_priority_classes(server: APIServer, client: Client) -> None:
    await server.listers.ensure(PRIORITY_CLASSES.group_resource)
    for wanted in priority_classes():
        await _ensure(server, client, PRIORITY_CLASSES, wanted)


async def ensure_authentication_config_map(server: APIServer, client: Client) -> None:
    await server.listers.ensure(CONFIG_MAPS.group_resource)
    wanted = authentication_config_map(server.config)
    existing = await _ensure(server, client, CONFIG_MAPS, wanted)
    if existing is None:
        return
    data = {**(existing.get("data") or {}), **wanted["data"]}
    if data != (existing.get("data") or {}):
        try:
            await client.update(CONFIG_MAPS, {**copy_object(existing), "data": data})
        except StatusError as error:
            if not is_conflict(error):
                raise
            log.warning("extension-apiserver-authentication: %s", error)


async def ensure_service_cidr(server: APIServer, client: Client) -> None:
    if server.registry.lookup(*SERVICE_CIDRS) is None:
        return
    await server.listers.ensure(SERVICE_CIDRS.group_resource)
    wanted = service_cidr(server.config)
    existing = await _ensure(server, client, SERVICE_CIDRS, wanted)
    if existing is not None:
        return
    try:
        created = await client.get(SERVICE_CIDRS, wanted["metadata"]["name"])
        ready = service_cidr_ready(format_time(server.clock.now()))
        await client.update(SERVICE_CIDRS, {**created, "status": ready}, subresource="status")
    except StatusError as error:
        log.warning("ServiceCIDR kubernetes: %s", error)
