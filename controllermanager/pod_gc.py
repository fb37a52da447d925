"""Deletes pods that nobody else will: on nodes that are gone, terminated ones beyond a limit,
terminating ones without a node, and terminating ones on nodes declared out of service.

Event-driven where upstream looks every 20 seconds; a missing node is believed after the same
40 seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.controllermanager.controller import Controller, gather_writes
from pilothouse.controllermanager.pods import (
    NODE_INDEX,
    is_deleted,
    is_terminal,
    node_index,
    node_of,
    phase_of,
)
from pilothouse.controllermanager.taints import OUT_OF_SERVICE, taints_of
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import NODES, PODS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

QUARANTINE = 40.0
_TERMINATED = "*terminated"
_NOW = DeleteOptions(grace_period_seconds=0)
_NODE_GONE = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByPodGC",
    "message": "PodGC: node no longer exists",
}


def surplus_terminated(pods: Sequence[Obj], threshold: int) -> list[Obj]:
    """The terminated pods beyond ``threshold``: evicted ones first, then the oldest. Pure."""
    terminated = [p for p in pods if phase_of(p) not in ("", "Pending", "Running", "Unknown")]
    terminated.sort(
        key=lambda p: (
            get_nested(p, "status", "reason") != "Evicted",
            meta(p).get("creationTimestamp") or "",
            name_of(p),
        )
    )
    return terminated[: max(0, len(terminated) - threshold)] if threshold > 0 else []


def is_out_of_service(node: Obj) -> bool:
    ready = condition_of(node, "Ready")
    return (ready is None or ready.get("status") != "True") and any(
        taint.get("key") == OUT_OF_SERVICE for taint in taints_of(node)
    )


class PodGCController(Controller):
    """Keys are ``node/<name>``, ``pod/<key>`` and one for the terminated pods."""

    name = "pod-garbage-collector-controller"

    def __init__(self, env: Environment, *, threshold: int = 12500) -> None:
        super().__init__(env)
        self._threshold = threshold
        self._pods = self.watch(PODS, self._pod_changed, lambda _, new: self._pod_changed(new))
        self._pods.add_index(NODE_INDEX, node_index)
        self._nodes = self.watch(
            NODES, on_update=lambda _, new: self._node_changed(new), on_delete=self._node_gone
        )

    def _pod_changed(self, pod: Obj) -> None:
        if is_deleted(pod):
            self.queue.add(f"pod/{object_key(pod)}")
        node = node_of(pod)
        if node and self._nodes.get(node) is None:
            self.queue.add_after(f"node/{node}", QUARANTINE)
        if is_terminal(pod) and len(self._pods.store) > self._threshold > 0:
            self.queue.add_after(_TERMINATED, 1.0)

    def _node_changed(self, node: Obj) -> None:
        if is_out_of_service(node):
            for pod in self._pods.by_index(NODE_INDEX, name_of(node)):
                if is_deleted(pod):
                    self.queue.add(f"pod/{object_key(pod)}")

    def _node_gone(self, node: Obj) -> None:
        self.queue.add_after(f"node/{name_of(node)}", QUARANTINE)

    async def sync(self, key: str) -> None:
        kind, _, name = key.partition("/")
        if key == _TERMINATED:
            doomed = surplus_terminated(self._pods.list(), self._threshold)
            await gather_writes([self._delete(pod) for pod in doomed])
        elif kind == "node":
            await self._sync_node(name)
        else:
            await self._sync_pod(name)

    async def _sync_node(self, name: str) -> None:
        pods = self._pods.by_index(NODE_INDEX, name)
        if not pods or self._nodes.get(name) is not None:
            return
        try:
            await self.client.get(NODES, name)
        except StatusError as error:
            if not is_not_found(error):
                raise
            condition = {**_NODE_GONE, "lastTransitionTime": self.timestamp()}
            await gather_writes([self._delete(pod, condition) for pod in pods])

    async def _sync_pod(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or not is_deleted(pod):
            return
        node = self._nodes.get(node_of(pod)) if node_of(pod) else None
        if not node_of(pod) or (node is not None and is_out_of_service(node)):
            await self._delete(pod)

    async def _delete(self, pod: Obj, condition: Obj | None = None) -> None:
        """Marks it failed if it is not over yet, and deletes it without grace."""
        try:
            if not is_terminal(pod):
                generation = meta(pod).get("generation") or 0
                status: Obj = {"phase": "Failed", "observedGeneration": generation}
                if condition is not None:
                    status["conditions"] = [condition | {"observedGeneration": generation}]
                await self.client.patch(
                    PODS,
                    name_of(pod),
                    {"metadata": {"uid": uid_of(pod)}, "status": status},
                    "application/strategic-merge-patch+json",
                    namespace_of(pod),
                    subresource="status",
                )
            await self.client.delete(PODS, name_of(pod), namespace_of(pod), _NOW)
        except StatusError as error:
            if not is_not_found(error):
                raise
