"""Empties namespaces that are being deleted, pods first, then lets them go.

The conditions on the namespace tell a user what holds it up (upstream's texts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    uid_of,
)
from pilothouse.controllermanager.controller import Controller, SyncError, seconds_of
from pilothouse.controllermanager.pods import is_terminal
from pilothouse.kubeclient.discovery import APIResource, discover
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import (
    API_SERVICES,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PODS,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.discovery import Discovered
    from pilothouse.kubeclient.interfaces import Environment

FINALIZER = "kubernetes"
FINALIZER_ESTIMATE = 15
_BACKGROUND = DeleteOptions(propagation_policy="Background")
_OK = {
    "NamespaceDeletionDiscoveryFailure": (
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}


class ContentRemains(SyncError):
    """Some objects need ``estimate`` more seconds."""

    def __init__(self, estimate: int) -> None:
        super().__init__(
            "some content remains in the namespace, "
            f"estimate {estimate} seconds before it is removed"
        )
        self.estimate = estimate


@dataclass(slots=True)
class Remains:
    """What one pass over a namespace left and met."""

    count: dict[GroupVersionResource, int] = field(default_factory=dict)
    finalizers: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    discovery_error: str = ""
    estimate: int = 0

    def add(self, resource: GroupVersionResource, items: Iterable[Obj]) -> None:
        for item in items:
            self.count[resource] = self.count.get(resource, 0) + 1
            for finalizer in meta(item).get("finalizers") or ():
                self.finalizers[finalizer] = self.finalizers.get(finalizer, 0) + 1


def conditions(old: Iterable[Obj], remains: Remains, timestamp: str) -> list[Obj]:
    """The namespace's conditions after a pass; pure."""
    problems = _problems(remains)
    result = [dict(condition) for condition in old]
    by_type = {condition["type"]: condition for condition in result}
    for type_, (ok_reason, ok_message) in _OK.items():
        bad = problems.get(type_)
        status, reason, message = ("True", *bad) if bad else ("False", ok_reason, ok_message)
        condition = by_type.get(type_)
        if condition is None:
            condition = {"type": type_, "lastTransitionTime": timestamp}
            result.append(condition)
        elif condition.get("status") != status:
            condition["lastTransitionTime"] = timestamp
        condition |= {"status": status, "reason": reason, "message": message}
    return result


def _problems(remains: Remains) -> dict[str, tuple[str, str]]:
    """(reason, message) by condition type."""
    found: dict[str, tuple[str, str]] = {}
    if remains.discovery_error:
        found["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", remains.discovery_error)
    if remains.errors:
        text = ", ".join(sorted(remains.errors))
        found["NamespaceDeletionContentFailure"] = (
            "ContentDeletionFailed",
            f"Failed to delete all resource types, {len(remains.errors)} remaining: {text}",
        )
    if remains.count:
        text = ", ".join(
            sorted(
                f"{gvr.resource}.{gvr.group} has {count} resource instances"
                for gvr, count in remains.count.items()
            )
        )
        found["NamespaceContentRemaining"] = (
            "SomeResourcesRemain",
            f"Some resources are remaining: {text}",
        )
    if remains.finalizers:
        text = ", ".join(
            sorted(f"{name} in {count} resource instances" for name, count in
                   remains.finalizers.items())
        )  # fmt: skip
        found["NamespaceFinalizersRemaining"] = (
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {text}",
        )
    return found


class NamespaceController(Controller):
    name = "namespace-controller"
    max_retries = None
    retry_delays = (0.005, 60.0)

    def __init__(self, env: Environment, *, workers: int = 10) -> None:
        super().__init__(env, workers=workers)
        self._namespaces = self.watch(NAMESPACES, self._changed, lambda _, new: self._changed(new))
        self._crds = self.watch(
            CUSTOM_RESOURCE_DEFINITIONS, self._forget, self._forget_both, self._forget
        )
        self.watch(API_SERVICES, self._forget, self._forget_both, self._forget)
        self.watch(PODS, None, None, self._pod_gone)
        self._discovered: Discovered | None = None
        self._waiting: set[str] = set()
        """Namespaces that are being emptied: when a pod of theirs goes, they are looked at."""

    def _pod_gone(self, pod: Obj) -> None:
        namespace = meta(pod).get("namespace") or ""
        if namespace in self._waiting:
            self.queue.add(namespace)

    def _changed(self, namespace: Obj) -> None:
        if meta(namespace).get("deletionTimestamp"):
            self.enqueue(namespace)

    def _forget(self, crd: Obj) -> None:
        self._discovered = None

    def _forget_both(self, old: Obj, new: Obj) -> None:
        self._discovered = None

    async def sync(self, key: str) -> None:
        if self._namespaces.get(key) is None:
            return
        try:
            namespace = await self.client.get(NAMESPACES, key)
        except StatusError as error:
            if is_not_found(error):
                return
            raise
        if not meta(namespace).get("deletionTimestamp"):
            return
        if get_nested(namespace, "status", "phase") != "Terminating":
            namespace = await self._mark_terminating(namespace)
        if not get_nested(namespace, "spec", "finalizers", default=()):
            return
        try:
            await self._empty(namespace)
        except ContentRemains as error:
            self._waiting.add(key)
            self.queue.add_after(key, error.estimate / 2 + 1)
            return
        self._waiting.discard(key)
        await self._finalize(namespace)

    async def _mark_terminating(self, namespace: Obj) -> Obj:
        copy = copy_object(namespace)
        copy.setdefault("status", {})["phase"] = "Terminating"
        return await self.client.update(NAMESPACES, copy, subresource="status")

    async def _finalize(self, namespace: Obj) -> None:
        while True:
            copy = copy_object(namespace)
            finalizers = get_nested(copy, "spec", "finalizers", default=[])
            copy["spec"]["finalizers"] = sorted({f for f in finalizers if f != FINALIZER})
            try:
                await self.client.update(NAMESPACES, copy, subresource="finalize")
                return
            except StatusError as error:
                if is_not_found(error):
                    return
                if not is_conflict(error):
                    raise
            latest = await self.client.get(NAMESPACES, name_of(namespace))
            if uid_of(latest) != uid_of(namespace):
                raise SyncError("namespace uid has changed across retries")
            namespace = latest

    async def _empty(self, namespace: Obj) -> None:
        """:raises ContentRemains: come back later. :raises SyncError: something failed."""
        remains = Remains()
        resources = await self._resources(remains)
        deleted_at = seconds_of(meta(namespace)["deletionTimestamp"])
        pods = [r for r in resources if r.gvr == PODS]
        for resource in pods:
            await self._empty_resource(name_of(namespace), resource, remains, deleted_at)
        if not remains.count:
            for resource in resources:
                if resource.gvr != PODS:
                    await self._empty_resource(name_of(namespace), resource, remains, deleted_at)
        await self._write_conditions(namespace, remains)
        if remains.errors or remains.discovery_error:
            raise SyncError("; ".join(remains.errors) or remains.discovery_error)
        if remains.estimate > 0:
            raise ContentRemains(remains.estimate)

    async def _resources(self, remains: Remains) -> list[APIResource]:
        if self._discovered is None:
            discovered = await discover(self.client)
            if discovered.failed:
                failing = ", ".join(f"{gv}: {e}" for gv, e in sorted(discovered.failed.items()))
                remains.discovery_error = (
                    f"Discovery failed for some groups, {len(discovered.failed)} failing: "
                    f"unable to retrieve the complete list of server APIs: {failing}"
                )
            else:
                self._discovered = discovered
        else:
            discovered = self._discovered
        return [r for r in discovered.preferred() if r.namespaced and "delete" in r.verbs]

    async def _empty_resource(
        self, namespace: str, resource: APIResource, remains: Remains, deleted_at: float
    ) -> None:
        try:
            estimate = 0
            if resource.gvr == PODS:
                estimate = await self._grace_left(namespace, deleted_at)
            left = await self._delete_all(namespace, resource)
        except StatusError as error:
            remains.errors.append(str(error))
            return
        if not left:
            return
        remains.add(resource.gvr, left)
        has_finalizers = any(meta(item).get("finalizers") for item in left)
        if not estimate and has_finalizers:
            estimate = FINALIZER_ESTIMATE
        if not estimate:
            gvr = resource.gvr
            remains.errors.append(
                f"unexpected items still remain in namespace: {namespace} for gvr: "
                f"{gvr.group}/{gvr.version}, Resource={gvr.resource}"
            )
        remains.estimate = max(remains.estimate, estimate)

    async def _delete_all(self, namespace: str, resource: APIResource) -> list[Obj]:
        """What is left of the resource after asking for all of it to be deleted."""
        if "list" in resource.verbs:
            present = (await self.client.list(resource.gvr, namespace)).items
            if not present:
                return []
        if "deletecollection" in resource.verbs:
            await self.client.delete_collection(resource.gvr, namespace, delete=_BACKGROUND)
        elif "list" in resource.verbs:
            for item in present:
                try:
                    await self.client.delete(resource.gvr, name_of(item), namespace, _BACKGROUND)
                except StatusError as error:
                    if not is_not_found(error):
                        raise
        if "list" not in resource.verbs:
            return []
        return (await self.client.list(resource.gvr, namespace)).items

    async def _grace_left(self, namespace: str, deleted_at: float) -> int:
        """The longest grace period of its pods, if that is not over yet."""
        pods = (await self.client.list(PODS, namespace)).items
        longest = max(
            (
                int(get_nested(pod, "spec", "terminationGracePeriodSeconds", default=0))
                for pod in pods
                if not is_terminal(pod)
            ),
            default=0,
        )
        return longest if self.now() - deleted_at < longest else 0

    async def _write_conditions(self, namespace: Obj, remains: Remains) -> None:
        old = get_nested(namespace, "status", "conditions", default=[])
        new = conditions(old, remains, self.timestamp())
        if new == old:
            return
        copy = copy_object(namespace)
        copy.setdefault("status", {})["conditions"] = new
        try:
            await self.client.update(NAMESPACES, copy, subresource="status")
        except StatusError as error:
            if not is_conflict(error) and not is_not_found(error):
                raise
