"""Watches over nodes: a kubelet that falls silent makes its node's conditions Unknown, which
become taints; pods of a node that is not ready are marked not ready.

Nothing is polled: each node has one timer, for when its grace period could be over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    uid_of,
)
from pilothouse.controllermanager.controller import Controller, gather_writes, seconds_of
from pilothouse.controllermanager.pods import NODE_INDEX, node_index, node_of
from pilothouse.controllermanager.stable_metrics import node_evictions
from pilothouse.controllermanager.taints import (
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    has_taint,
    swapped,
    taints_of,
)
from pilothouse.controllermanager.zone_health import (
    NodeLifecycleConfig,
    ZoneHealth,
    ready_status,
    zone_of,
)
from pilothouse.kubeclient.resources import LEASES, NODES, PODS
from pilothouse.kubeclient.workqueue.rate_limiters import TokenBucket

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

LEASE_NAMESPACE = "kube-node-lease"
_CONDITION_TYPES = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_TAINT_BY_CONDITION = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_CONDITION_TAINTS = frozenset((*_TAINT_BY_CONDITION.values(), UNSCHEDULABLE))
_LABELS = (
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
)
DEFAULTS = NodeLifecycleConfig()


# The pure part.


def no_schedule_taints(node: Obj) -> list[Obj]:
    """The NoSchedule taints that the node's conditions call for."""
    taints = [
        {"key": key, "effect": "NoSchedule"}
        for condition in get_nested(node, "status", "conditions", default=())
        if (key := _TAINT_BY_CONDITION.get((condition["type"], condition.get("status", ""))))
    ]
    if get_nested(node, "spec", "unschedulable"):
        taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
    return taints


def with_no_schedule_taints(node: Obj, timestamp: str) -> list[Obj] | None:
    """The node's taints put right; None when they are."""
    wanted = {taint["key"] for taint in no_schedule_taints(node)}
    present = {
        t["key"]
        for t in taints_of(node)
        if t.get("effect") == "NoSchedule" and t["key"] in _CONDITION_TAINTS
    }
    add = [{**t, "timeAdded": timestamp} for t in no_schedule_taints(node)
           if t["key"] not in present]  # fmt: skip
    remove = [{"key": key, "effect": "NoSchedule"} for key in present - wanted]
    return swapped(taints_of(node), add, remove)


def silent_conditions(node: Obj, timestamp: str) -> list[Obj]:
    """The conditions of a node whose kubelet has not been heard of for too long."""
    conditions = [dict(c) for c in get_nested(node, "status", "conditions", default=())]
    by_type = {c["type"]: c for c in conditions}
    for type_ in _CONDITION_TYPES:
        condition = by_type.get(type_)
        if condition is None:
            conditions.append(
                {
                    "type": type_,
                    "status": "Unknown",
                    "lastHeartbeatTime": meta(node).get("creationTimestamp"),
                    "lastTransitionTime": timestamp,
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
        elif condition.get("status") != "Unknown":
            condition |= {
                "status": "Unknown",
                "lastTransitionTime": timestamp,
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
    return conditions


# The shell.


@dataclass(slots=True)
class _Health:
    """When the node was last heard of, by our own clock (clocks of nodes are not trusted)."""

    uid: str
    heard: float
    heartbeat: object = None
    renewed: object = None
    ready: str = ""
    check_pods: bool = False
    """Pods came to the node while it was not ready."""


class NodeLifecycleController(Controller):
    name = "node-lifecycle-controller"

    def __init__(
        self,
        env: Environment,
        config: NodeLifecycleConfig = DEFAULTS,
    ) -> None:
        super().__init__(env, workers=4, component="node-controller")
        self._config = config
        self._health: dict[str, _Health] = {}
        self._zones = ZoneHealth(config)
        self._evictions = node_evictions()
        self.own_metrics = (self._evictions,)
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}
        self._nodes = self.watch(
            NODES, self._node_changed, lambda _, new: self._node_changed(new), self._node_gone
        )
        self._leases = self.watch(LEASES, self._lease_changed, lambda _, n: self._lease_changed(n))
        self._pods = self.watch(PODS, self._pod_added, self._pod_updated)
        self._pods.add_index(NODE_INDEX, node_index)

    # Events.

    def _node_changed(self, node: Obj) -> None:
        name = name_of(node)
        condition = condition_of(node, "Ready")
        heartbeat = condition.get("lastHeartbeatTime") if condition is not None else None
        health = self._health.get(name)
        if health is None or health.uid != uid_of(node):
            heard = self.clock.monotonic()
            if condition is None:  # its start counts from its creation
                heard -= max(0.0, self.now() - seconds_of(meta(node).get("creationTimestamp")))
            self._health[name] = _Health(uid_of(node), heard, heartbeat)
            self._node_event(node, "RegisteredNode", f"Registered Node {name} in Controller")
        elif heartbeat != health.heartbeat:
            health.heartbeat = heartbeat
            if ready_status(node) != "Unknown":
                health.heard = self.clock.monotonic()
        self.queue.add(name)
        if self._zones.note(node):
            self._wake_waiting()

    def _node_gone(self, node: Obj) -> None:
        name = name_of(node)
        self._health.pop(name, None)
        if self._zones.forget(name):
            self._wake_waiting()
        self._node_event(node, "RemovingNode", f"Removing Node {name} from Controller")

    def _wake_waiting(self) -> None:
        """The pace of eviction has changed: those that wait for it must look again."""
        for name in self._zones.not_ready:
            self.queue.add(name)

    def _node_event(self, node: Obj, reason: str, text: str) -> None:
        message = f"Node {name_of(node)} event: {text}"
        self.recorder.event(_reference(node), "Normal", reason, message)

    def _lease_changed(self, lease: Obj) -> None:
        if meta(lease).get("namespace") != LEASE_NAMESPACE:
            return
        health = self._health.get(name_of(lease))
        renewed = get_nested(lease, "spec", "renewTime")
        if health is not None and renewed != health.renewed:
            health.renewed = renewed
            health.heard = self.clock.monotonic()

    def _pod_added(self, pod: Obj) -> None:
        health = self._health.get(node_of(pod))
        if health is not None and health.ready not in ("", "True"):
            health.check_pods = True
            self.queue.add(node_of(pod))

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        if node_of(old) != node_of(new):
            self._pod_added(new)

    # Sync.

    async def sync(self, key: str) -> None:
        node = self._nodes.get(key)
        health = self._health.get(key)
        if node is None or health is None:
            return
        before = ready_status(node)
        node = await self._check_silence(node, health)
        if self._zones.note(node):  # no pod goes when all nodes are silent: ask before tainting
            self._wake_waiting()
        ready = ready_status(node)
        node = await self._put_right(node)
        await self._taint_no_execute(node, ready)
        await self._report_not_ready(node, health, before, ready)

    async def _check_silence(self, node: Obj, health: _Health) -> Obj:
        """Marks the node's conditions Unknown when its grace is over, else sets the timer."""
        reported = condition_of(node, "Ready") is not None
        config = self._config
        grace = config.monitor_grace_period if reported else config.startup_grace_period
        left = health.heard + grace - self.clock.monotonic()
        if left > 0:
            self.queue.add_after(name_of(node), left, upkeep=True)
            return node
        conditions = silent_conditions(node, self.timestamp())
        if conditions == get_nested(node, "status", "conditions", default=[]):
            return node
        if await self._lease_is_newer(node, health):
            return node
        copy = copy_object(node)
        copy.setdefault("status", {})["conditions"] = conditions
        return await self.client.update(NODES, copy, subresource="status")

    async def _lease_is_newer(self, node: Obj, health: _Health) -> bool:
        """Before a node is declared dead, the server is asked: our informer may lag."""
        try:
            lease = await self.client.get(LEASES, name_of(node), LEASE_NAMESPACE)
        except StatusError as error:
            if is_not_found(error):
                return False
            raise
        if get_nested(lease, "spec", "renewTime") == health.renewed:
            return False
        self._lease_changed(lease)
        self.queue.add(name_of(node))
        return True

    async def _put_right(self, node: Obj) -> Obj:
        """Taints that follow from conditions, and the old labels for OS and architecture."""
        taints = with_no_schedule_taints(node, self.timestamp())
        labels = meta(node).get("labels") or {}
        missing = {
            old: labels[new] for new, old in _LABELS if new in labels and labels.get(old) !=
            labels[new]
        }  # fmt: skip
        if taints is None and not missing:
            return node
        patch: Obj = {"metadata": {"resourceVersion": meta(node).get("resourceVersion")}}
        if taints is not None:
            patch["spec"] = {"taints": taints or None}
        if missing:
            patch["metadata"]["labels"] = missing
        return await self._patch(node, patch)

    async def _patch(self, node: Obj, patch: Obj) -> Obj:
        return await self.client.patch(NODES, name_of(node), patch, "application/merge-patch+json")

    async def _taint_no_execute(self, node: Obj, ready: str) -> None:
        both = [{"key": key, "effect": "NoExecute"} for key in (NOT_READY, UNREACHABLE)]
        if ready in ("True", ""):
            await self._swap(node, [], both)
            return
        pace = self._zones.pace
        rates = pace.rates
        if rates and not any(rates.values()) and not pace.any_ready:
            await self._swap(node, [], both)
            return
        key, other = (NOT_READY, UNREACHABLE) if ready == "False" else (UNREACHABLE, NOT_READY)
        if has_taint(node, key, "NoExecute"):
            return
        if not has_taint(node, other, "NoExecute"):
            wait = self._wait_for_turn(zone_of(node), rates.get(zone_of(node), 0.0))
            if wait is None:
                return  # it is woken when the rate changes
            if wait > 0:
                self.queue.add_after(name_of(node), wait)
                return
        taint = {"key": key, "effect": "NoExecute", "timeAdded": self.timestamp()}
        await self._swap(node, [taint], [{"key": other, "effect": "NoExecute"}])
        self._evictions.inc(zone_of(node))

    def _wait_for_turn(self, zone: str, rate: float) -> float | None:
        """0: now. None: not while things are as they are."""
        if rate == 0:
            return None
        known, bucket = self._buckets.get(zone, (0.0, None))
        if bucket is None or known != rate:
            bucket = TokenBucket(rate, 1, self.clock)
            self._buckets[zone] = (rate, bucket)
        return 0.0 if bucket.try_accept() else bucket.time_to_token()

    async def _swap(self, node: Obj, add: list[Obj], remove: list[Obj]) -> None:
        taints = swapped(taints_of(node), add, remove)
        if taints is not None:
            version = meta(node).get("resourceVersion")
            patch = {"metadata": {"resourceVersion": version}, "spec": {"taints": taints or None}}
            await self._patch(node, patch)

    async def _report_not_ready(self, node: Obj, health: _Health, before: str, ready: str) -> None:
        if ready in ("", "True"):
            health.ready = ready
            return
        # A kubelet that says itself that it is not ready looks after its pods itself.
        if before == "True":
            message = f"Node {name_of(node)} status is now: NodeNotReady"
            self.recorder.event(_reference(node), "Normal", "NodeNotReady", message)
            health.check_pods = True
        if health.check_pods:
            pods = self._pods.by_index(NODE_INDEX, name_of(node))
            await gather_writes([self._mark_not_ready(pod) for pod in pods])
        health.ready, health.check_pods = ready, False

    async def _mark_not_ready(self, pod: Obj) -> None:
        condition = condition_of(pod, "Ready")
        if condition is None or condition.get("status") != "True":
            return
        copy = copy_object(pod)
        new = condition_of(copy, "Ready")
        assert new is not None
        new |= {"status": "False", "lastTransitionTime": self.timestamp()}
        try:
            await self.client.update(PODS, copy, subresource="status")
        except StatusError as error:
            if is_not_found(error):
                return
            raise
        self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _reference(node: Obj) -> Obj:
    return {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}
