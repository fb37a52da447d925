"""Keeps ``status`` of ResourceQuotas: what is used of what is allowed.

Admission refuses by this status and raises it at once; this controller lowers it again when
objects go, and puts right what was missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj, get_nested, meta, namespace_of, object_key
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core import device_quota
from pilothouse.apis.core.quota_usage import attribute_classes, claim_in_scopes, is_terminating
from pilothouse.controllermanager import quota_usage
from pilothouse.controllermanager.controller import Controller, with_status
from pilothouse.controllermanager.pods import is_deleted, is_terminal
from pilothouse.kubeclient.discovery import discover
from pilothouse.kubeclient.resources import (
    CONFIG_MAPS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    DEVICE_CLASSES,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.cache.informer import SharedInformer
    from pilothouse.kubeclient.interfaces import Environment


def compute_used(
    quota: Obj,
    pods: Iterable[Obj],
    services: Iterable[Obj],
    claims: Iterable[Obj],
    counts: Mapping[str, int],
    now: float,
    devices: Iterable[quota_usage.Usage] = (),
) -> dict[str, str]:
    """``status.used`` for the names in ``spec.hard``; ``counts`` are objects by quota name,
    ``devices`` what resource claims count for."""
    total: quota_usage.Usage = {}
    for pod in pods:
        if quota_usage.matches_scopes(quota, pod):
            quota_usage.add(total, quota_usage.pod_usage(pod, now))
    for claim in claims:
        if claim_in_scopes(quota, claim):
            quota_usage.add(total, quota_usage.claim_usage(claim))
    if not _is_scoped(quota):
        for service in services:
            quota_usage.add(total, quota_usage.service_usage(service))
        for usage in devices:
            quota_usage.add(total, usage)
        quota_usage.add(total, {name: Quantity.of(count) for name, count in counts.items()})
    hard = get_nested(quota, "spec", "hard", default={})
    zero = Quantity.of(0)
    return {name: str(total.get(name, zero)) for name in hard}


def _is_scoped(quota: Obj) -> bool:
    spec = quota.get("spec") or {}
    return bool(spec.get("scopes") or spec.get("scopeSelector"))


class ResourceQuotaController(Controller):
    name = "resourcequota-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5, sync_period: float = 300.0) -> None:
        super().__init__(env, workers=workers)
        self._sync_period = sync_period
        self._quotas = self.watch(RESOURCE_QUOTAS, self.enqueue, self._quota_updated, self._gone)
        self._pods = self.watch(PODS, on_update=self._pod_updated, on_delete=self._gone)
        self._services = self.watch(SERVICES, on_update=self._updated, on_delete=self._gone)
        self._claims = self.watch(
            PERSISTENT_VOLUME_CLAIMS, on_update=self._claim_updated, on_delete=self._gone
        )
        self._counted: dict[str, SharedInformer] = {
            "configmaps": self.watch(CONFIG_MAPS, on_delete=self._gone),
            "secrets": self.watch(SECRETS, on_delete=self._gone),
            "replicationcontrollers": self.watch(REPLICATION_CONTROLLERS, on_delete=self._gone),
            "resourcequotas": self._quotas,
        }
        self._resource_claims = self.watch(
            RESOURCE_CLAIMS, on_update=self._updated, on_delete=self._gone
        )
        self._device_classes = self.watch(
            DEVICE_CLASSES, self._class_changed, lambda _, new: self._class_changed(new),
            self._class_changed,
        )  # fmt: skip
        # Other controllers follow these too, so that the informers cost nothing more.
        for workload in (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS, CRON_JOBS):
            self._counted[str(workload.group_resource)] = self.watch(workload, on_delete=self._gone)

    def _quota_updated(self, old: Obj, new: Obj) -> None:
        hard = get_nested(new, "spec", "hard", default={})
        if old.get("spec") != new.get("spec") or get_nested(new, "status", "hard") != hard:
            self.enqueue(new)

    def _updated(self, old: Obj, new: Obj) -> None:
        if old.get("spec") != new.get("spec"):
            self._gone(new)

    def _claim_updated(self, old: Obj, new: Obj) -> None:
        if attribute_classes(old) != attribute_classes(new):
            self._gone(new)
        else:
            self._updated(old, new)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if is_terminating(old) != is_terminating(new):  # it went from one scope to another
            self._gone(new)
        ended = is_terminal(new) and not is_terminal(old)
        if ended or (is_deleted(new) and not is_deleted(old)):
            self._gone(new)
            grace = meta(new).get("deletionGracePeriodSeconds")
            if grace:
                for quota in self._quotas.list(namespace_of(new)):
                    self.queue.add_after(object_key(quota), float(grace) + 1)

    def _class_changed(self, _: Obj) -> None:
        for quota in self._quotas.list():
            if device_quota.counts_extended(get_nested(quota, "spec", "hard", default={})):
                self.enqueue(quota)

    def _gone(self, obj: Obj) -> None:
        for quota in self._quotas.list(namespace_of(obj)):
            self.enqueue(quota)

    async def sync(self, key: str) -> None:
        quota = self._quotas.get(key)
        if quota is None:
            return
        namespace = namespace_of(quota)
        hard = get_nested(quota, "spec", "hard", default={})
        counts, live = await self._counts(namespace, hard)
        used = compute_used(
            quota,
            self._pods.list(namespace),
            self._services.list(namespace),
            self._claims.list(namespace),
            counts,
            self.now(),
            self._devices(namespace),
        )
        status = {"hard": hard, "used": used}
        if (quota.get("status") or {}) != status:
            new = with_status(quota, status)
            await self.client.update(RESOURCE_QUOTAS, new, subresource="status")
        if live:
            # Kinds that nobody follows are counted again from time to time.
            self.queue.add_after(key, self._sync_period, upkeep=True)

    def _devices(self, namespace: str) -> Iterable[quota_usage.Usage]:
        claims = self._resource_claims.list(namespace)
        if not claims:
            return
        classes = device_quota.extended_names(self._device_classes.list())
        now = datetime.fromtimestamp(self.now(), UTC)
        for claim in claims:
            owner = device_quota.owner_of(claim)
            pod = self._pods.get(f"{namespace}/{owner[0]}") if owner else None
            yield device_quota.claim_usage(claim, pod, claims, classes, now)

    async def _counts(self, namespace: str, hard: Mapping[str, str]) -> tuple[dict[str, int], bool]:
        """Objects by quota name, and whether some had to be asked for."""
        counts: dict[str, int] = {}
        for resource, informer in self._counted.items():
            number = len(informer.list(namespace))
            counts[resource] = counts[f"count/{resource}"] = number
        known = {
            "count/pods", "count/services", "count/persistentvolumeclaims",
            "count/resourceclaims.resource.k8s.io", *counts,
        }  # fmt: skip
        others = [n for n in hard if n.startswith("count/") and n not in known]
        if not others:
            return counts, False
        discovered = await discover(self.client)
        for name in others:
            for served in discovered.preferred():
                if name == f"count/{served.gvr.group_resource}" and served.namespaced:
                    counts[name] = await self._count_live(served.gvr, namespace)
                    break
        return counts, True

    async def _count_live(self, resource: GroupVersionResource, namespace: str) -> int:
        try:
            return len((await self.client.list(resource, namespace)).items)
        except StatusError as error:
            if error.code in (404, 405):
                return 0
            raise
