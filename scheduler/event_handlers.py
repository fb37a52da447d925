"""Informer events in, changes of the queue and the cache out (pkg/scheduler/eventhandlers.go)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj, name_of
from pilothouse.kubeclient.cache.informer import SharedInformer
from pilothouse.scheduler.cache.cache import SchedulerCache
from pilothouse.scheduler.framework.events import Action, ClusterEvent, node_update_action
from pilothouse.scheduler.framework.pod_info import PodInfo, integer_requests
from pilothouse.scheduler.queueing.nominator import Nominator
from pilothouse.scheduler.queueing.scheduling_queue import SchedulingQueue

TERMINAL = ("Succeeded", "Failed")


class EventHandlers:
    """``wake`` is called after each change that may have made a pod ready to try."""

    def __init__(
        self,
        queue: SchedulingQueue,
        cache: SchedulerCache,
        nominator: Nominator,
        *,
        scheduler_names: Collection[str],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._cache = cache
        self._nominator = nominator
        self._scheduler_names = scheduler_names
        self._clock = clock
        self._wake = wake

    def attach(self, pods: SharedInformer, nodes: SharedInformer) -> None:
        nodes.add_handler(self.node_added, self.node_updated, self.node_deleted)
        pods.add_handler(self.pod_added, self.pod_updated, self.pod_deleted)

    def attach_other(self, resource: str, informer: SharedInformer) -> None:
        """Any other resource that plugins have registered for; ``resource`` is its kind."""

        def event(action: Action, old: Obj | None, new: Obj | None) -> None:
            self._move(ClusterEvent(resource, action), old, new)

        informer.add_handler(
            lambda obj: event(Action.ADD, None, obj),
            lambda old, new: event(Action.UPDATE, old, new),
            lambda obj: event(Action.DELETE, obj, None),
        )

    # -- nodes ---------------------------------------------------------------------------

    def node_added(self, node: Obj) -> None:
        self._cache.set_node(node)
        self._move(ClusterEvent("Node", Action.ADD), None, node)

    def node_updated(self, old: Obj, new: Obj) -> None:
        self._cache.set_node(new)
        action = node_update_action(old, new)
        if action:
            self._move(ClusterEvent("Node", action), old, new)

    def node_deleted(self, node: Obj) -> None:
        self._cache.remove_node(name_of(node))
        self._move(ClusterEvent("Node", Action.DELETE), node, None)

    # -- pods ----------------------------------------------------------------------------

    def pod_added(self, pod: Obj) -> None:
        if _assigned(pod):
            if not _terminal(pod):
                self._place(pod)
        elif self._ours(pod):
            info = PodInfo(pod)
            self._nominator.set(info, info.nominated_node_name)
            self._queue.add(info, self._clock.monotonic())
            self._wake()

    def pod_updated(self, old: Obj, new: Obj) -> None:
        if _assigned(new):
            self._assigned_pod_updated(old, new)
        elif self._ours(new):
            info = PodInfo(new)
            if self._cache.is_assumed(info.uid):
                return
            if info.nominated_node_name or not self._nominator.node_of(info.uid):
                self._nominator.set(info, info.nominated_node_name)
            helpful = _helps_itself(old, new)
            self._queue.update(info, self._clock.monotonic(), helpful=helpful)
            self._wake()

    def _assigned_pod_updated(self, old: Obj, new: Obj) -> None:
        if not _assigned(old):
            uid = new["metadata"].get("uid") or ""
            self._queue.delete(uid)
            self._nominator.remove(uid)
        if _terminal(new):
            if not _terminal(old):
                self.pod_deleted(new)
            return
        self._place(new)
        if not _assigned(old):
            self._move(ClusterEvent("AssignedPod", Action.ADD), None, new)
        elif old["metadata"].get("labels") != new["metadata"].get("labels"):
            self._move(ClusterEvent("AssignedPod", Action.UPDATE_POD_LABEL), old, new)
        elif (old["spec"] is not new["spec"] and old["spec"] != new["spec"]) or (
            _sizes(old) != _sizes(new)
        ):
            self._move(ClusterEvent("AssignedPod", Action.UPDATE_POD_SCALE_DOWN), old, new)

    def pod_deleted(self, pod: Obj) -> None:
        uid = pod["metadata"].get("uid") or ""
        if _assigned(pod):
            self._cache.remove_pod(uid)
        else:
            self._queue.delete(uid)
        self._nominator.remove(uid)
        self._move(ClusterEvent("AssignedPod", Action.DELETE), pod, None)

    # -- inside --------------------------------------------------------------------------

    def _place(self, pod: Obj) -> None:
        self._cache.add_pod(PodInfo(pod))

    def _move(self, event: ClusterEvent, old: Obj | None, new: Obj | None) -> None:
        self._queue.move(event, old, new, self._clock.monotonic())
        self._wake()

    def _ours(self, pod: Obj) -> bool:
        name = pod["spec"].get("schedulerName") or "default-scheduler"
        return name in self._scheduler_names and not _terminal(pod)


def _assigned(pod: Obj) -> bool:
    return bool(pod["spec"].get("nodeName"))


def _terminal(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in TERMINAL


def _sizes(pod: Obj) -> list[tuple[object, object]]:
    """What the kubelet says that the pod has: a smaller size frees something only then."""
    status = pod.get("status") or {}
    parts = [status, *(status.get("initContainerStatuses") or ())]
    parts += status.get("containerStatuses") or ()
    return [(part.get("resources"), part.get("allocatedResources")) for part in parts]


def _helps_itself(old: Obj, new: Obj) -> bool:
    """Whether a pod's own change may make it schedulable (labels, tolerations, gates, size)."""
    old_spec, new_spec = old["spec"], new["spec"]
    if old["metadata"].get("labels") != new["metadata"].get("labels"):
        return True
    for field in ("tolerations", "schedulingGates", "nodeSelector", "affinity"):
        if old_spec.get(field) != new_spec.get(field):
            return True
    statuses = [(obj.get("status") or {}).get("resourceClaimStatuses") for obj in (old, new)]
    if statuses[0] != statuses[1]:
        return True
    return old_spec is not new_spec and integer_requests(old) != integer_requests(new)
