"""Carries the graph's commands out against the server.

Nothing is deleted on the graph's word alone: the object and each of its owners are read live
first, so a stale graph can only delay a deletion, never cause one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import Obj, meta, uid_of
from pilothouse.controllermanager.controller import Controller, SyncError, gather_writes
from pilothouse.controllermanager.garbage_collector.graph import (
    FOREGROUND_FINALIZER,
    ORPHAN_FINALIZER,
    Command,
    Identity,
    Node,
)
from pilothouse.controllermanager.garbage_collector.graph_builder import IGNORED, GraphBuilder
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS

if TYPE_CHECKING:
    from pilothouse.kubeclient.discovery import APIResource
    from pilothouse.kubeclient.interfaces import Environment

log = logging.getLogger(__name__)

REFRESH = "*refresh"
REFRESH_AGAIN_SECONDS = 5.0
Policy = Literal["Background", "Foreground", "Orphan"]


@dataclass(slots=True)
class References:
    """An object's owner references by what became of the owners."""

    solid: list[Obj] = field(default_factory=list)
    dangling: list[Obj] = field(default_factory=list)
    waiting: list[Obj] = field(default_factory=list)
    """The owner waits for this object to be deleted."""


def choose_policy(latest: Obj) -> Policy:
    """How to delete an object without owners: as its own finalizers say."""
    finalizers = meta(latest).get("finalizers") or ()
    if ORPHAN_FINALIZER in finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND_FINALIZER in finalizers else "Background"


class _NamespacedOwner(SyncError):
    """A cluster-scoped object names a namespaced owner: it can't be checked, so it stays."""


class GarbageCollector(Controller):
    """Keys are ``delete/<uid>``, ``orphan/<uid>``, ``verify/<uid>`` and :data:`REFRESH`."""

    name = "garbage-collector-controller"
    max_retries = None

    def __init__(
        self, env: Environment, *, workers: int = 20, ignored: frozenset[str] = IGNORED
    ) -> None:
        super().__init__(env, workers=workers)
        self._builder = GraphBuilder(env, self._accept, ignored)
        self._crds = self.watch(
            CUSTOM_RESOURCE_DEFINITIONS, self._crd_changed, self._crd_updated, self._crd_changed
        )
        self.watch(
            API_SERVICES,
            self._api_service_changed,
            self._api_service_updated,
            self._api_service_changed,
        )
        self._held_back: dict[str, None] | None = {}
        """Keys that came up before the graph was complete; None once it is."""

    def start_workers(self) -> None:
        """Following some sixty resources takes a while; nobody waits for it."""
        self.queue.add(REFRESH)
        super().start_workers()

    async def stop(self) -> None:
        await super().stop()
        await self._builder.stop()

    def _crd_changed(self, crd: Obj) -> None:
        self.queue.add(REFRESH)
        # Discovery may follow the CRD's status a moment later.
        self.queue.add_after(REFRESH, REFRESH_AGAIN_SECONDS)

    def _crd_updated(self, old: Obj, new: Obj) -> None:
        if _served(old) != _served(new):
            self._crd_changed(new)

    def _api_service_changed(self, api_service: Obj) -> None:
        """What other servers serve is in discovery only; our own groups come with CRDs."""
        if _remote(api_service) is not None:
            self._crd_changed(api_service)

    def _api_service_updated(self, old: Obj, new: Obj) -> None:
        if _remote(old) != _remote(new):
            self._crd_changed(new)

    def _accept(self, commands: Sequence[Command]) -> None:
        for what, node, owner in commands:
            if what == "invalid":
                self._report_invalid(node, owner)
                continue
            key = f"{what}/{node.identity.uid}"
            if self._held_back is None:
                self.queue.add(key)
            else:
                self._held_back[key] = None

    def _report_invalid(self, node: Node, owner: Identity | None) -> None:
        identity = node.identity
        reference = {
            "kind": identity.kind,
            "apiVersion": identity.api_version,
            "namespace": identity.namespace,
            "name": identity.name,
            "uid": identity.uid,
        }
        message = f'ownerRef {owner} does not exist in namespace "{identity.namespace}"'
        self.recorder.event(reference, "Warning", "OwnerRefInvalidNamespace", message)

    def _graph_complete(self) -> None:
        held, self._held_back = self._held_back, None
        for key in held or ():
            self.queue.add(key)

    async def sync(self, key: str) -> None:
        if key == REFRESH:
            await self._builder.refresh()
            if self._held_back is not None:
                self._builder.when_synced(self._graph_complete)
            return
        what, _, uid = key.partition("/")
        node = self._builder.graph.get(uid)
        if node is None:
            return
        try:
            if what == "orphan":
                await self._orphan(node)
            elif what == "verify":
                await self._verify(node)
            else:
                await self._attempt_to_delete(node)
        except _NamespacedOwner as error:
            log.debug("%s", error)

    # Looking.

    def _resource(self, api_version: str, kind: str) -> APIResource:
        resource = self._builder.discovered.for_kind(api_version, kind)
        if resource is None:
            raise SyncError(f"unable to get REST mapping for {api_version}/{kind}.")
        return resource

    async def _get(self, identity: Identity) -> Obj | None:
        """The live object with this identity, None when there is none."""
        resource = self._resource(identity.api_version, identity.kind)
        namespace = identity.namespace if resource.namespaced else ""
        if resource.namespaced and not namespace:
            raise _NamespacedOwner(f"{identity} is namespaced but has no namespace")
        try:
            latest = await self.client.get(resource.gvr, identity.name, namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise
        return latest if uid_of(latest) == identity.uid else None

    async def _verify(self, node: Node) -> None:
        if node.observed:
            return
        if await self._get(node.identity) is None:
            self._gone(node.identity)
        elif self._builder.graph.get(node.identity.uid) is node and not node.observed:
            resource = self._resource(node.identity.api_version, node.identity.kind)
            if self._builder.follows(resource.gvr.group_resource):
                raise SyncError(f"{node.identity} hasn't been observed via informer yet")

    def _gone(self, identity: Identity) -> None:
        self._accept(self._builder.graph.remove(identity, virtual=True))

    async def _classify(self, node: Node, references: Sequence[Obj]) -> References:
        result = References()
        for reference in references:
            owner = await self._owner(node, reference)
            if owner is None:
                result.dangling.append(reference)
            elif meta(owner).get("deletionTimestamp") and FOREGROUND_FINALIZER in (
                meta(owner).get("finalizers") or ()
            ):
                result.waiting.append(reference)
            else:
                result.solid.append(reference)
        return result

    async def _owner(self, node: Node, reference: Obj) -> Obj | None:
        """The live owner; None when there is none with that uid."""
        absent = self._builder.graph.absent
        namespace = node.identity.namespace
        identity = Identity(
            reference.get("apiVersion") or "",
            reference.get("kind") or "",
            namespace,
            reference.get("name") or "",
            reference.get("uid") or "",
        )
        if identity in absent or identity._replace(namespace="") in absent:
            return None
        resource = self._resource(identity.api_version, identity.kind)
        if resource.namespaced and not namespace:
            raise _NamespacedOwner(f"{node.identity} is cluster-scoped but owned by {identity}")
        owner = await self._get(identity)
        if owner is None:
            absent.add(identity if resource.namespaced else identity._replace(namespace=""))
        return owner

    # Acting.

    async def _attempt_to_delete(self, node: Node) -> None:
        if node.being_deleted and not node.deleting_dependents:
            return
        if not node.observed:
            await self._verify(node)
            return
        latest = await self._get(node.identity)
        if latest is None:
            self._gone(node.identity)
            return
        if node.deleting_dependents:
            await self._delete_dependents(node)
            return
        owners = meta(latest).get("ownerReferences") or []
        if not owners:
            return
        references = await self._classify(node, owners)
        if references.solid:
            useless = references.dangling + references.waiting
            if useless:
                await self._drop_owners(node.identity, [o["uid"] for o in useless])
        elif references.waiting and node.dependents:
            if any(dependent.deleting_dependents for dependent in node.dependents.values()):
                await self._unblock(node.identity, latest)
            await self._delete(node.identity, latest, "Foreground")
        else:
            await self._delete(node.identity, latest, choose_policy(latest))

    async def _delete_dependents(self, node: Node) -> None:
        """Foreground deletion: what blocks it goes first, then the finalizer."""
        blocking = node.blocking_dependents()
        if not blocking:
            await self._remove_finalizer(node.identity, FOREGROUND_FINALIZER)
        for dependent in blocking:
            if not dependent.deleting_dependents:
                self.queue.add(f"delete/{dependent.identity.uid}")

    async def _delete(self, identity: Identity, latest: Obj, policy: Policy) -> None:
        resource = self._resource(identity.api_version, identity.kind)
        namespace = identity.namespace if resource.namespaced else ""
        version = meta(latest).get("resourceVersion") or ""
        options = DeleteOptions(
            propagation_policy=policy,
            precondition_uid=identity.uid,
            precondition_resource_version=version,
        )
        try:
            try:
                await self.client.delete(resource.gvr, identity.name, namespace, options)
            except StatusError as error:
                if not is_conflict(error):
                    raise
                # It changed meanwhile: what counts is whether its owners did.
                live = await self.client.get(resource.gvr, identity.name, namespace)
                owners = [meta(o).get("ownerReferences") for o in (live, latest)]
                if uid_of(live) != identity.uid or owners[0] != owners[1]:
                    raise
                options = DeleteOptions(propagation_policy=policy, precondition_uid=identity.uid)
                await self.client.delete(resource.gvr, identity.name, namespace, options)
        except StatusError as error:
            if not is_not_found(error):
                raise
            self._gone(identity)

    async def _orphan(self, node: Node) -> None:
        dependents = list(node.dependents.values())
        await gather_writes(
            [self._drop_owners(d.identity, [node.identity.uid]) for d in dependents]
        )
        await self._remove_finalizer(node.identity, ORPHAN_FINALIZER)

    async def _drop_owners(self, identity: Identity, uids: Sequence[str]) -> None:
        latest = await self._get(identity)
        if latest is None:
            return
        owners = meta(latest).get("ownerReferences") or []
        kept = [owner for owner in owners if owner.get("uid") not in uids]
        if kept != owners:
            await self._patch_metadata(identity, latest, {"ownerReferences": kept or None})

    async def _unblock(self, identity: Identity, latest: Obj) -> None:
        """In a cycle of foreground deletions somebody must stop blocking."""
        owners = [
            {**owner, "blockOwnerDeletion": False}
            for owner in meta(latest).get("ownerReferences") or ()
        ]
        await self._patch_metadata(identity, latest, {"ownerReferences": owners})

    async def _remove_finalizer(self, identity: Identity, finalizer: str) -> None:
        latest = await self._get(identity)
        if latest is None:
            return
        finalizers = meta(latest).get("finalizers") or []
        if finalizer in finalizers:
            kept = [name for name in finalizers if name != finalizer]
            await self._patch_metadata(identity, latest, {"finalizers": kept or None})

    async def _patch_metadata(self, identity: Identity, latest: Obj, metadata: Obj) -> None:
        resource = self._resource(identity.api_version, identity.kind)
        namespace = identity.namespace if resource.namespaced else ""
        patch = {"metadata": {"resourceVersion": meta(latest).get("resourceVersion"), **metadata}}
        try:
            await self.client.patch(
                resource.gvr, identity.name, patch, "application/merge-patch+json", namespace
            )
        except StatusError as error:
            if not is_not_found(error):
                raise


def _remote(api_service: Obj) -> object:
    """Where a group version is served and whether it can be reached; None when it is ours."""
    service = (api_service.get("spec") or {}).get("service")
    if service is None:
        return None
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    return service, [c.get("status") for c in conditions if c.get("type") == "Available"]


def _served(crd: Obj) -> object:
    """What of a CRD decides about discovery."""
    spec = crd.get("spec") or {}
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return (
        (spec.get("names") or {}).get("plural"),
        [(v.get("name"), v.get("served")) for v in spec.get("versions") or ()],
        [c.get("status") for c in conditions if c.get("type") == "Established"],
    )
