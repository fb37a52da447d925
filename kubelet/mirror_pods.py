"""Static pods as the kubelet runs them, and their mirrors as the API shows them.

Between the pod workers (they know static pods by the uid of their manifest) and the informer (it
knows mirrors): a mirror is never run; what happens to it only has its pod shown anew.
"""

from __future__ import annotations

from collections.abc import Callable

from pilothouse.apimachinery.object import Obj
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.componentbase.tasks import TaskOwner
from pilothouse.kubeclient.cache.informer import SharedInformer
from pilothouse.kubelet.pod_workers import PodWorkers
from pilothouse.kubelet.static_pods import StaticPods, is_mirror, static_uid
from pilothouse.kubelet.status_manager import StatusManager


class MirrorPods:
    """Implements ``static_pods.PodRunner``."""

    def __init__(
        self,
        workers: PodWorkers,
        statuses: StatusManager,
        pods: SharedInformer,
        uids: dict[str, str],
        *,
        release: Callable[[str], None],
        tasks: TaskOwner,
        activity: ActivityTracker,
    ) -> None:
        """``uids``: object key by uid of the pods that run here, the kubelet's own;
        ``release(uid)``: the room of a pod is free again."""
        self._workers = workers
        self._statuses = statuses
        self._pods = pods
        self._uids = uids
        self._release = release
        self._tasks = tasks
        self._activity = activity
        self.static: StaticPods | None = None

    def shown(self, pod: Obj) -> Obj:
        """An API pod with the newest status; instead of a mirror the pod that runs."""
        state = self._workers.get(static_uid(pod)) if is_mirror(pod) else None
        return self._statuses.last(pod if state is None else state.pod)

    def changed(self, mirror: Obj) -> None:
        """A mirror is new in the API, or something of it is."""
        state = self._workers.get(static_uid(mirror))
        if state is None or "deletionTimestamp" in mirror["metadata"]:
            self.look()
        elif (mirror.get("status") or {}) != self._statuses.last(state.pod).get(
            "status"
        ) and not self._statuses.show_again(state.pod):
            self._workers.kick(static_uid(mirror))

    def look(self) -> None:
        """Soon, and once for everything that happens until then."""
        if self.static is not None:
            self._tasks.start(self._look(self.static), "static pods")

    async def _look(self, static: StaticPods) -> None:
        with self._activity.work("static pods"):
            await static.look()

    # -- PodRunner -----------------------------------------------------------------------

    def api_pods(self) -> list[Obj]:
        return self._pods.list()

    def run_static(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        self._uids[metadata["uid"]] = f"{metadata['namespace']}/{metadata['name']}"
        self._workers.update_pod(pod)

    def end_static(self, pod: Obj) -> None:
        uid = static_uid(pod)
        if self._uids.pop(uid, None) is not None:
            self._release(uid)
            self._workers.object_gone(uid)

    def is_busy(self, uid: str) -> bool:
        return self._workers.get(uid) is not None
