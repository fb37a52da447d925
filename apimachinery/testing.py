"""Fakes and object builders for tests of any part: a clock that a test moves by hand.

``FakeClock`` is the virtual clock with what tests of a part alone need. ``advance`` fires timers
in the order of their deadlines; ``advance_through`` does so and lets the woken tasks run in
between, so that a loop that sleeps again within the span is woken again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.clock import new_future
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apimachinery.virtual_clock import VirtualClock, next_tick

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.apimachinery.object import Obj

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock(VirtualClock):
    """A Clock that stands still until the test advances it."""

    def __init__(self, start: datetime = START) -> None:
        super().__init__(start)

    async def advance_through(self, seconds: float, ticks: int = 5) -> None:
        """As :meth:`advance`, with ``ticks`` turns of the event loop after every timer."""
        target = self.monotonic() + seconds
        await self._run(ticks)
        while self._fire_next(target):
            await self._run(ticks)
        self._elapsed = max(self._elapsed, target)
        await self._run(ticks)

    async def until_pending(self, count: int = 1) -> None:
        """Returns as soon as ``count`` timers or sleepers wait."""
        if self.pending >= count:
            return
        future = new_future()
        watcher = (count, future)
        self._watchers.append(watcher)
        try:
            await future
        finally:
            self._watchers.remove(watcher)

    async def _run(self, ticks: int) -> None:
        for _ in range(ticks):
            await next_tick()


def make_object(
    api_version: str,
    kind: str,
    name: str,
    namespace: str = "",
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    uid: str = "",
    resource_version: str = "",
    owner: Obj | None = None,
    created: datetime | None = None,
    **fields: Any,
) -> Obj:
    """Any object; ``fields`` are its top-level fields such as ``spec`` and ``data``."""
    metadata: Obj = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if uid:
        metadata["uid"] = uid
    if resource_version:
        metadata["resourceVersion"] = resource_version
    if created:
        metadata["creationTimestamp"] = format_time(created)
    if labels is not None:
        metadata["labels"] = dict(labels)
    if annotations is not None:
        metadata["annotations"] = dict(annotations)
    if owner is not None:
        metadata["ownerReferences"] = [make_owner_reference(owner)]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def make_owner_reference(owner: Obj, controller: bool = True) -> Obj:
    """A reference to ``owner`` as metav1.NewControllerRef makes it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"].get("uid") or "",
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def make_container(
    name: str = "c",
    image: str = "busybox",
    *,
    requests: Mapping[str, str] | None = None,
    limits: Mapping[str, str] | None = None,
    ports: Sequence[int] = (),
    **fields: Any,
) -> Obj:
    container: Obj = {"name": name, "image": image, **fields}
    resources = {
        key: dict(value) for key, value in (("limits", limits), ("requests", requests)) if value
    }
    if resources:
        container["resources"] = resources
    if ports:
        container["ports"] = [{"containerPort": port, "protocol": "TCP"} for port in ports]
    return container


def make_pod(
    name: str = "pod",
    namespace: str = "default",
    *,
    node: str = "",
    containers: Sequence[Obj] | None = None,
    requests: Mapping[str, str] | None = None,
    phase: str = "",
    pod_ip: str = "",
    ready: bool | None = None,
    spec: Mapping[str, Any] | None = None,
    **meta: Any,
) -> Obj:
    """A pod with one container; ``meta`` goes to :func:`make_object`."""
    pod_spec: Obj = {
        "containers": [*(containers or (make_container(requests=requests),))],
        **(spec or {}),
    }
    if node:
        pod_spec["nodeName"] = node
    status: Obj = {}
    if phase:
        status["phase"] = phase
    if pod_ip:
        status |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
    if ready is not None:
        status["conditions"] = [{"type": "Ready", "status": "True" if ready else "False"}]
    return make_object("v1", "Pod", name, namespace, **meta, spec=pod_spec, status=status)


def make_node(
    name: str = "node",
    *,
    cpu: str = "4",
    memory: str = "16Gi",
    pods: str = "110",
    taints: Sequence[Obj] = (),
    unschedulable: bool = False,
    ready: bool = True,
    **meta: Any,
) -> Obj:
    """A node with resources and a Ready condition."""
    spec: Obj = {}
    if taints:
        spec["taints"] = list(taints)
    if unschedulable:
        spec["unschedulable"] = True
    resources = {"cpu": cpu, "memory": memory, "pods": pods}
    status: Obj = {
        "capacity": resources,
        "allocatable": dict(resources),
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    return make_object("v1", "Node", name, **meta, spec=spec, status=status)


def make_workload(
    kind: str,
    name: str = "app",
    namespace: str = "default",
    *,
    replicas: int | None = 1,
    match: Mapping[str, str] | None = None,
    containers: Sequence[Obj] | None = None,
    spec: Mapping[str, Any] | None = None,
    **meta: Any,
) -> Obj:
    """An ``apps/v1`` object with a pod template: Deployment, ReplicaSet, …"""
    match = dict(match or {"app": name})
    template: Obj = {
        "metadata": {"labels": match},
        "spec": {"containers": [*(containers or (make_container(),))]},
    }
    full: Obj = {"selector": {"matchLabels": match}, "template": template, **(spec or {})}
    if replicas is not None:
        full["replicas"] = replicas
    return make_object("apps/v1", kind, name, namespace, **meta, spec=full, status={})


def make_config_map(
    name: str = "config",
    namespace: str = "default",
    data: Mapping[str, str] | None = None,
    **meta: Any,
) -> Obj:
    return make_object("v1", "ConfigMap", name, namespace, **meta, data=dict(data or {}))


def make_service(
    name: str = "service",
    namespace: str = "default",
    *,
    selector: Mapping[str, str] | None = None,
    ports: Sequence[int] = (80,),
    cluster_ip: str = "",
    spec: Mapping[str, Any] | None = None,
    **meta: Any,
) -> Obj:
    full: Obj = {
        "selector": dict(selector or {"app": name}),
        "ports": [{"port": port, "protocol": "TCP", "targetPort": port} for port in ports],
        **(spec or {}),
    }
    if cluster_ip:
        full |= {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip]}
    return make_object("v1", "Service", name, namespace, **meta, spec=full)
