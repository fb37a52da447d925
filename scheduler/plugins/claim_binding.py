"""What DynamicResources writes: allocations and reservations, a claim for extended resources, and
allocations that are taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
)
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.core.resource_claims import is_reserved_for
from pilothouse.kubeclient.resources import PODS, RESOURCE_CLAIMS
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.waiter import Waiter
from pilothouse.scheduler.plugins.device_binding import BindingError, is_late, is_ready

if TYPE_CHECKING:
    from pilothouse.scheduler.framework.handle import Handle

FINALIZER = "resource.kubernetes.io/delete-protection"
RETRIES = 5
STRATEGIC: Final = "application/strategic-merge-patch+json"


class ClaimBinder:
    def __init__(self, handle: Handle, timeout: float) -> None:
        """``timeout``: how long devices may take to be attached."""
        self._handle = handle
        self._client = handle.client
        self._timeout = timeout
        self._claims = handle.informer(RESOURCE_CLAIMS)
        self._waiting: list[Waiter] = []
        self._claims.add_handler(self._changed, lambda _, new: self._changed(new), self._changed)

    def _changed(self, _: Obj) -> None:
        for waiter in self._waiting:
            waiter.wake()

    # -- binding -------------------------------------------------------------------------

    async def create(self, claim: Obj) -> Obj:
        """The claim for a pod's extended resources."""
        new: Obj = copy_object(claim)
        for part in ("name", "uid"):
            del new["metadata"][part]
        new.pop("status", None)
        return await self._client.create(RESOURCE_CLAIMS, new, namespace_of(claim))

    async def bind(self, pod: PodInfo, claim: Obj, allocation: Obj | None) -> Obj:
        """Writes allocation and reservation; the claim as it is then.

        :raises StatusError: :raises BindingError: the claim has changed too much.
        """
        for attempt in range(RETRIES):
            try:
                return await self._bind(pod, claim, allocation)
            except StatusError as error:
                if not is_conflict(error) or attempt == RETRIES - 1:
                    raise
            claim = await self._client.get(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim))
        raise AssertionError("unreachable")

    async def _bind(self, pod: PodInfo, claim: Obj, allocation: Obj | None) -> Obj:
        """Finalizer first: an allocated claim must not vanish before it is let go."""
        if meta(claim).get("deletionTimestamp"):
            raise BindingError(f"claim {object_key(claim)} got deleted in the meantime")
        known = get_nested(claim, "status", "allocation")
        if allocation is not None and known:
            raise BindingError(f"claim {object_key(claim)} got allocated elsewhere in the meantime")
        if allocation is None and not known:
            raise BindingError(
                f"claim {object_key(claim)} got deallocated elsewhere in the meantime"
            )
        new: Obj = copy_object(claim)
        finalizers = meta(claim).get("finalizers") or []
        if allocation is not None and FINALIZER not in finalizers:
            new["metadata"]["finalizers"] = [*finalizers, FINALIZER]
            new = copy_object(await self._client.update(RESOURCE_CLAIMS, new))
        status = new.setdefault("status", {})
        status["allocation"] = dict(allocation or known)
        now = format_time(self._handle.clock.now())
        status["allocation"].setdefault("allocationTimestamp", now)
        if not is_reserved_for(pod.obj, new):
            consumer = {"resource": "pods", "name": pod.name, "uid": pod.uid}
            status["reservedFor"] = [*(status.get("reservedFor") or ()), consumer]
        return await self._client.update(RESOURCE_CLAIMS, new, subresource="status")

    async def note(self, pod: PodInfo, claim: Obj, mappings: Sequence[Obj]) -> None:
        """Tells the kubelet, in the pod's status, which devices are whose."""
        known = {"requestMappings": list(mappings), "resourceClaimName": name_of(claim)}
        await self._client.patch(
            PODS, pod.name, {"status": {"extendedResourceClaimStatus": known}}, STRATEGIC,
            pod.namespace, subresource="status",
        )  # fmt: skip

    async def wait(self, pod: PodInfo, node_name: str, claims: Sequence[Obj]) -> None:
        """Until all devices are attached. :raises BindingError: that fails, or takes too long."""
        if self._handle.tell is not None:
            self._handle.tell(
                pod, "Normal", "BindingConditionsPending", "Scheduling",
                f"waiting for binding conditions for device on node {node_name}",
            )  # fmt: skip
        waiter = Waiter(self._handle)
        timer = self._handle.clock.call_later(self._timeout, waiter.wake)
        deadline = self._handle.clock.monotonic() + self._timeout
        self._waiting.append(waiter)
        try:
            while not all([self._is_ready(claim) for claim in claims]):
                if self._handle.clock.monotonic() >= deadline:
                    raise BindingError("device binding timeout: context deadline exceeded")
                await waiter.wait()
        finally:
            timer.cancel()
            self._waiting.remove(waiter)

    def _is_ready(self, written: Obj) -> bool:
        claim = self._claims.get(object_key(written))
        if claim is None:
            raise BindingError(f'resourceclaim "{name_of(written)}" not found')
        if is_ready(claim):
            return True
        if is_late(claim, self._handle.clock.now(), self._timeout):
            raise BindingError(f"device binding timeout: claim={name_of(claim)}")
        return False

    # -- taking back ---------------------------------------------------------------------

    async def let_go(self, pod: PodInfo, claim: Obj) -> None:
        """Takes the pod's reservation back."""
        entry = {"$patch": "delete", "uid": pod.uid}
        patch = {"metadata": {"uid": meta(claim).get("uid")}, "status": {"reservedFor": [entry]}}
        await self._client.patch(
            RESOURCE_CLAIMS, name_of(claim), patch, STRATEGIC, namespace_of(claim),
            subresource="status",
        )  # fmt: skip

    async def deallocate(self, claim: Obj) -> None:
        status = dict(claim.get("status") or {})
        for part in ("reservedFor", "allocation", "devices"):
            status.pop(part, None)
        await self._client.update(
            RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status"
        )

    async def delete(self, claim: Obj) -> None:
        """Finalizer and all. It may be gone already."""
        try:
            for attempt in range(RETRIES):
                try:
                    await self._without_finalizer(claim)
                    break
                except StatusError as error:
                    if not is_conflict(error) or attempt == RETRIES - 1:
                        raise
                claim = await self._client.get(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim))
            await self._client.delete(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim))
        except StatusError as error:
            if not is_not_found(error):
                raise

    async def _without_finalizer(self, claim: Obj) -> None:
        finalizers = meta(claim).get("finalizers") or []
        if FINALIZER in finalizers:
            new: Obj = copy_object(claim)
            new["metadata"]["finalizers"] = [f for f in finalizers if f != FINALIZER]
            await self._client.update(RESOURCE_CLAIMS, new)
