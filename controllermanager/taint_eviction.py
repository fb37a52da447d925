"""Deletes pods from nodes with NoExecute taints that they don't tolerate (any longer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    get_nested,
    meta,
    name_of,
    object_key,
    split_key,
    uid_of,
)
from pilothouse.controllermanager.controller import Controller
from pilothouse.controllermanager.pods import NODE_INDEX, is_deleted, node_index, node_of
from pilothouse.controllermanager.taints import (
    least_toleration_seconds,
    matching_tolerations,
    no_execute,
)
from pilothouse.kubeclient.resources import NODES, PODS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

REASON = "TaintManagerEviction"


def eviction_delay(pod: Obj, taints: Sequence[Obj]) -> float | None:
    """Seconds that the pod may stay from when the taints came; None: as long as it likes."""
    if not taints:
        return None
    used = matching_tolerations(taints, get_nested(pod, "spec", "tolerations", default=[]))
    return 0.0 if used is None else least_toleration_seconds(used)


class TaintEvictionController(Controller):
    """A pod's deadline is counted from when this controller first saw the taint, so that a
    changed toleration can bring it forward but a restart starts it anew."""

    name = "taint-eviction-controller"

    def __init__(self, env: Environment, *, workers: int = 8) -> None:
        super().__init__(env, workers=workers)
        self._since: dict[str, tuple[str, float]] = {}
        """Pods with a deadline: uid, and when the countdown began."""
        self._pods = self.watch(PODS, self._pod_changed, self._pod_updated, self._pod_gone)
        self._pods.add_index(NODE_INDEX, node_index)
        self._nodes = self.watch(NODES, self._node_changed, self._node_updated)

    def _pod_changed(self, pod: Obj) -> None:
        if node_of(pod):
            self.enqueue(pod)

    def _pod_updated(self, old: Obj, new: Obj) -> None:
        tolerations = [get_nested(p, "spec", "tolerations") for p in (old, new)]
        if tolerations[0] != tolerations[1] or node_of(old) != node_of(new):
            self._pod_changed(new)

    def _pod_gone(self, pod: Obj) -> None:
        if object_key(pod) in self._since:
            self.enqueue(pod)

    def _node_changed(self, node: Obj) -> None:
        if no_execute(node):
            self._enqueue_pods(node)

    def _node_updated(self, old: Obj, new: Obj) -> None:
        if no_execute(old) != no_execute(new):
            self._enqueue_pods(new)

    def _enqueue_pods(self, node: Obj) -> None:
        for pod in self._pods.by_index(NODE_INDEX, name_of(node)):
            self.enqueue(pod)

    async def sync(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None:
            self._cancel(key)
            return
        node = self._nodes.get(node_of(pod))
        delay = eviction_delay(pod, no_execute(node) if node is not None else ())
        if delay is None or is_deleted(pod):
            self._cancel(key)
            return
        uid, since = self._since.get(key, ("", 0.0))
        if uid != uid_of(pod):
            since = self.clock.monotonic()
            self._since[key] = (uid_of(pod), since)
        left = since + delay - self.clock.monotonic()
        if left > 0:
            self.queue.add_after(key, left)
            return
        self._event(key, f"Marking for deletion Pod {key}")
        await self._evict(key, pod)
        self._since.pop(key, None)

    def _cancel(self, key: str) -> None:
        if self._since.pop(key, None) is not None:
            self._event(key, f"Cancelling deletion of Pod {key}")

    def _event(self, key: str, message: str) -> None:
        namespace, name = split_key(key)
        reference = {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace}
        self.recorder.event(reference, "Normal", REASON, message)

    async def _evict(self, key: str, pod: Obj) -> None:
        namespace, name = split_key(key)
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": meta(pod).get("generation") or 0,
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": self.timestamp(),
        }
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
        try:
            await self.client.patch(
                PODS,
                name,
                patch,
                "application/strategic-merge-patch+json",
                namespace,
                subresource="status",
            )
            await self.client.delete(PODS, name, namespace)
        except StatusError as error:
            if not is_not_found(error):
                raise
