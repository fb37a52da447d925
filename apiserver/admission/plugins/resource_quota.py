"""ResourceQuota: charges a namespace's quotas before an object is stored.

Requests of one namespace are judged one batch at a time: whoever gets the lock judges all that
wait, against running totals, and writes each changed quota once. A quota that someone else
wrote meanwhile is read again and the batch is judged anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import (
    StatusError,
    is_conflict,
    is_not_found,
    new_internal_error,
)
from pilothouse.apimachinery.schema import GroupResource, GroupVersionResource
from pilothouse.apis.core import device_quota
from pilothouse.apis.core.quota_usage import (
    CLAIMS,
    IGNORED,
    PODS,
    RESOURCE_CLAIMS,
    SERVICES,
    usage,
)
from pilothouse.apis.core.quota_usage import is_terminating as is_terminating_scope
from pilothouse.apiserver.admission.plugin import Plugin
from pilothouse.apiserver.admission.quota_charge import charge

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apis.core.resource_requests import ResourceList
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation

_GVR = GroupVersionResource("", "v1", "resourcequotas")
_DEVICE_CLASSES = GroupResource("resource.k8s.io", "deviceclasses")
_RETRIES = 3
_UPDATED_KINDS = (PODS, SERVICES, CLAIMS, RESOURCE_CLAIMS)


@dataclass(slots=True, eq=False)
class _Waiter:
    attributes: Attributes
    done: bool = False
    error: StatusError | None = None


class ResourceQuota(Plugin):
    def set_up(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._queues: dict[str, list[_Waiter]] = {}
        self._written: dict[tuple[str, str], Obj] = {}

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        if resource in IGNORED:
            return False
        if subresource == "":
            return operation == "CREATE" or resource in _UPDATED_KINDS
        if operation != "UPDATE":
            return False
        return (resource, subresource) in ((PODS, "resize"), (CLAIMS, "status"))

    async def validate(self, attributes: Attributes) -> None:
        namespace = attributes.namespace
        if not namespace or not self.context.quotas.in_namespace(namespace):
            return
        if not _may_change_usage(attributes):
            return
        if attributes.resource.group_resource == RESOURCE_CLAIMS:
            for resource in (PODS, RESOURCE_CLAIMS, _DEVICE_CLASSES):
                await self.listed(resource)
        waiter = _Waiter(attributes)
        queue = self._queues.setdefault(namespace, [])
        queue.append(waiter)
        try:
            async with self._locks.setdefault(namespace, asyncio.Lock()):
                if not waiter.done:
                    await self._judge(namespace, list(queue))
        finally:
            if waiter in queue:
                queue.remove(waiter)
            if not queue:
                self._queues.pop(namespace, None)
                self._locks.pop(namespace, None)
        if waiter.error is not None:
            raise waiter.error

    async def _judge(self, namespace: str, waiters: list[_Waiter]) -> None:
        """Sets ``done`` and ``error`` of all; they stay unset if this is cancelled."""
        charged: set[str] = set()
        """Quotas that have been written for those who passed: a conflict at another one must not
        charge these again."""
        for attempt in range(_RETRIES + 1):
            originals = {n: q for n, q in self._quotas(namespace).items() if n not in charged}
            running = dict(originals)
            passed: list[_Waiter] = []
            for waiter in waiters:
                try:
                    now = self.context.clock.now()
                    changed = charge(running, waiter.attributes, now, self._usage)
                except StatusError as error:
                    waiter.error, waiter.done = error, True
                    continue
                if not waiter.attributes.dry_run:
                    running.update(changed)
                passed.append(waiter)
            conflict = await self._write(namespace, originals, running, charged)
            if conflict is None:
                for waiter in passed:
                    waiter.done = True
                return
            waiters = passed
            if attempt == _RETRIES:
                for waiter in passed:
                    waiter.error, waiter.done = conflict, True

    def _usage(self, resource: GroupResource, obj: Obj, now: datetime) -> ResourceList:
        if resource != RESOURCE_CLAIMS:
            return usage(resource, obj, now)
        namespace = obj["metadata"].get("namespace") or ""
        owner = device_quota.owner_of(obj)
        pod = self.listers.get(PODS, namespace, owner[0]) if owner else None
        claims = self.listers.list(RESOURCE_CLAIMS, namespace) if owner else ()
        classes = device_quota.extended_names(self.listers.list(_DEVICE_CLASSES))
        return device_quota.claim_usage(obj, pod, claims, classes, now)

    def _quotas(self, namespace: str) -> dict[str, Obj]:
        """As the cache has them, or as this plugin wrote them when the cache lags."""
        found: dict[str, Obj] = {}
        for quota in self.context.quotas.in_namespace(namespace):
            name = quota["metadata"]["name"]
            written = self._written.get((namespace, name))
            if written is not None:
                if _revision(written) > _revision(quota):
                    quota = written
                else:
                    del self._written[namespace, name]
            found[name] = quota
        return found

    async def _write(
        self,
        namespace: str,
        originals: dict[str, Obj],
        running: dict[str, Obj],
        charged: set[str],
    ) -> StatusError | None:
        """None when all is written; the conflict when the batch has to be judged again. What is
        written by then is added to ``charged``."""
        client = self.context.hooks.client
        for name, quota in running.items():
            if quota is originals[name]:
                continue
            if client is None:
                return new_internal_error("resource quota usage cannot be written")
            try:
                written = await client.update(_GVR, quota, subresource="status")
            except StatusError as error:
                if is_conflict(error):
                    await self._refresh(namespace, name)
                    return error
                if is_not_found(error):
                    continue
                raise
            self._written[namespace, name] = written
            charged.add(name)
        return None

    async def _refresh(self, namespace: str, name: str) -> None:
        client = self.context.hooks.client
        if client is None:
            return
        try:
            self._written[namespace, name] = await client.get(_GVR, name, namespace)
        except StatusError as error:
            if not is_not_found(error):
                raise


def _may_change_usage(attributes: Attributes) -> bool:
    obj, old = attributes.obj, attributes.old_obj
    if obj is None:
        return False
    if attributes.operation == "CREATE":
        return True
    resource = attributes.resource.group_resource
    if old is None:
        return False
    if resource == PODS and attributes.subresource == "":
        return is_terminating_scope(obj) != is_terminating_scope(old)
    if resource == CLAIMS and attributes.subresource == "status":
        return bool(_allocated(obj) != _allocated(old))
    return True


def _allocated(claim: Obj) -> object:
    return ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")


def _revision(obj: Obj) -> int:
    text = obj["metadata"].get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0


PLUGINS = {"ResourceQuota": ResourceQuota}
