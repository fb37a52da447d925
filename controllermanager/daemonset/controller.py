"""Keeps a pod of each DaemonSet on every node that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apimachinery.wait import ExponentialBackoff
from pilothouse.controllermanager import pods as podutil
from pilothouse.controllermanager.controller import (
    Controller,
    SyncError,
    gather_writes,
    slow_start_batch,
    with_status,
)
from pilothouse.controllermanager.controller_ref import RefManager, controller_reference
from pilothouse.controllermanager.daemonset import compute
from pilothouse.controllermanager.daemonset.compute import Plan
from pilothouse.controllermanager.expectations import Expectations
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING, PodControl
from pilothouse.controllermanager.revision_history import HASH_LABEL, RevisionHistory
from pilothouse.controllermanager.taints import taints_of
from pilothouse.kubeclient.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

BURST_REPLICAS = 250
SELECTING_ALL = "This daemon set is selecting all pods. A non-empty selector is required."


class DaemonSetController(Controller):
    name = "daemonset-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 2) -> None:
        super().__init__(env, workers=workers)
        self._expectations = Expectations()
        self._pod_control = PodControl(self.client, self.recorder)
        self._failed = ExponentialBackoff(self.clock, 1.0, 900.0)
        self._sets = self.watch(DAEMON_SETS, self.enqueue, self._set_updated, self._set_gone)
        self._pods = self.watch(PODS, self._pod_added, self._pod_updated, self._pod_deleted)
        self._pods.add_index(podutil.CONTROLLER_INDEX, podutil.controller_index)
        self._nodes = self.watch(NODES, self._node_changed, self._node_updated, self._node_changed)
        revisions = self.watch(CONTROLLER_REVISIONS, on_delete=self._revision_gone)
        self._history = RevisionHistory(self.client, DAEMON_SETS, revisions)

    # Events.

    def _set_updated(self, old: Obj, new: Obj) -> None:
        if uid_of(old) != uid_of(new):
            self._set_gone(old)
        self.enqueue(new)

    def _set_gone(self, daemon_set: Obj) -> None:
        self._expectations.forget(object_key(daemon_set))
        self.enqueue(daemon_set)

    def _resolve(self, obj: Obj) -> Obj | None:
        reference = controller_of(obj)
        if reference is None or reference.get("kind") != "DaemonSet":
            return None
        owner = self._sets.get(f"{namespace_of(obj)}/{reference.get('name')}")
        return owner if owner is not None and uid_of(owner) == reference.get("uid") else None

    def _pod_added(self, pod: Obj) -> None:
        if podutil.is_deleted(pod):
            self._pod_deleted(pod)
            return
        owner = self._resolve(pod)
        if owner is not None:
            self._expectations.creation_observed(object_key(owner))
            self.enqueue(owner)
        elif controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _enqueue_matching(self, pod: Obj) -> None:
        labels = meta(pod).get("labels")
        for daemon_set in self._sets.list(namespace_of(pod)) if labels else ():
            selector = selector_from_label_selector(daemon_set["spec"].get("selector"))
            if not selector.empty and selector.matches(labels):
                self.enqueue(daemon_set)

    def _pod_updated(self, old: Obj, pod: Obj) -> None:
        former = self._resolve(old)
        if former is not None and controller_of(old) != controller_of(pod):
            self.enqueue(former)
        owner = self._resolve(pod)
        if podutil.is_deleted(pod):
            self._pod_deleted(pod)
        elif owner is not None:
            self.enqueue(owner)
            min_ready = owner["spec"].get("minReadySeconds")
            if min_ready and podutil.is_ready(pod) and not podutil.is_ready(old):
                self.queue.add_after(object_key(owner), min_ready + 1)
        elif controller_of(pod) is None and meta(old).get("labels") != meta(pod).get("labels"):
            self._enqueue_matching(pod)

    def _pod_deleted(self, pod: Obj) -> None:
        owner = self._resolve(pod)
        if owner is not None:
            self._expectations.deletion_observed(object_key(owner), object_key(pod))
            self.enqueue(owner)

    def _revision_gone(self, revision: Obj) -> None:
        owner = self._resolve(revision)
        if owner is not None:
            self.enqueue(owner)

    def _node_changed(self, _node: Obj) -> None:
        for daemon_set in self._sets.list():
            self.enqueue(daemon_set)

    def _node_updated(self, old: Obj, new: Obj) -> None:
        if meta(old).get("labels") == meta(new).get("labels") and taints_of(old) == taints_of(new):
            return
        for daemon_set in self._sets.list():
            if compute.should_run(daemon_set, old) != compute.should_run(daemon_set, new):
                self.enqueue(daemon_set)

    # Sync.

    async def sync(self, key: str) -> None:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            self._expectations.forget(key)
            return
        if daemon_set["spec"].get("selector") == {}:
            self.recorder.event(daemon_set, "Warning", "SelectingAll", SELECTING_ALL)
            return
        if podutil.is_deleted(daemon_set):
            return
        selector = selector_from_label_selector(daemon_set["spec"].get("selector"))
        revisions = await self._history.of(daemon_set, selector)
        current = await self._history.current(daemon_set, revisions)
        hashed = meta(current)["labels"][HASH_LABEL]
        nodes = self._nodes.list()
        references = RefManager(self.client, DAEMON_SETS, daemon_set, selector, PODS)
        pods = await references.claim(self._candidates(daemon_set))
        grouped = compute.by_node(pods)
        failure: BaseException | None = None
        satisfied = self._expectations.satisfied(key, self.now())
        if satisfied:
            failure = await self._manage(key, daemon_set, nodes, grouped, hashed)
        if satisfied and failure is None:
            live = {hashed} | {(meta(p).get("labels") or {}).get(HASH_LABEL, "") for p in pods}
            await self._history.truncate(daemon_set, revisions, live | {name_of(current)})
        await self._write_status(key, daemon_set, nodes, grouped, hashed, satisfied)
        if failure is not None:
            raise failure

    def _candidates(self, daemon_set: Obj) -> list[Obj]:
        namespace = namespace_of(daemon_set)
        mine = podutil.controller_index_key(namespace, controller_reference(daemon_set))
        return [
            *self._pods.by_index(podutil.CONTROLLER_INDEX, mine),
            *self._pods.by_index(podutil.CONTROLLER_INDEX, namespace),
        ]

    async def _manage(
        self, key: str, daemon_set: Obj, nodes: list[Obj], pods: dict[str, list[Obj]], hashed: str
    ) -> BaseException | None:
        """Placement first; an update goes on only while nothing else is under way."""
        plan = compute.plan_placement(daemon_set, nodes, pods, hashed, self.now())
        self._take_failed(key, daemon_set, plan)
        for event in plan.events:
            self.recorder.event(daemon_set, *event)
        failure = await self._carry_out(key, daemon_set, plan, hashed)
        if failure is not None or plan.create or plan.delete:
            return failure
        strategy = (daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
        if strategy != "RollingUpdate":
            return None
        try:
            plan = compute.plan_rolling_update(daemon_set, nodes, pods, hashed, self.now())
        except ValueError as error:
            return SyncError(f"couldn't get unavailable numbers: {error}")
        return await self._carry_out(key, daemon_set, plan, hashed)

    def _take_failed(self, key: str, daemon_set: Obj, plan: Plan) -> None:
        for node, pod in plan.failed:
            backoff = compute.backoff_key(daemon_set, node)
            if self._failed.is_in_backoff_since_update(backoff):
                self.queue.add_after(key, self._failed.get(backoff))
                continue
            self._failed.next(backoff)
            where = f"{object_key(pod)} on node {node}"
            message = f"Found failed daemon pod {where}, will try to kill it"
            self.recorder.event(daemon_set, "Warning", "FailedDaemonPod", message)
            plan.delete.append(pod)

    async def _carry_out(
        self, key: str, daemon_set: Obj, plan: Plan, hashed: str
    ) -> BaseException | None:
        create, delete = plan.create[:BURST_REPLICAS], plan.delete[:BURST_REPLICAS]
        if not create and not delete:
            return None
        doomed = [object_key(pod) for pod in delete]
        self._expectations.expect(key, creations=len(create), deletions=doomed, now=self.now())
        waiting = iter(create)

        async def make() -> None:
            pod = compute.make_pod(daemon_set, next(waiting), hashed)
            try:
                await self._pod_control.create(pod, daemon_set)
            except StatusError as error:
                if not error.has_cause(NAMESPACE_TERMINATING):
                    raise

        created, failure = await slow_start_batch(len(create), make)
        self._expectations.creation_observed(key, len(create) - created)

        async def remove(pod: Obj) -> None:
            try:
                await self._pod_control.delete(pod, daemon_set)
            except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
                self._expectations.deletion_observed(key, object_key(pod))
                if not is_not_found(error):
                    raise

        try:
            await gather_writes([remove(pod) for pod in delete])
        except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
            failure = failure or error
        return failure

    async def _write_status(
        self,
        key: str,
        daemon_set: Obj,
        nodes: list[Obj],
        pods: dict[str, list[Obj]],
        hashed: str,
        observed: bool,
    ) -> None:
        now = self.now()
        status = compute.compute_status(daemon_set, nodes, pods, hashed, now, observed=observed)
        if status != {"observedGeneration": 0} | (daemon_set.get("status") or {}):
            new = with_status(daemon_set, status)
            await self.client.update(DAEMON_SETS, new, subresource="status")
        min_ready = daemon_set["spec"].get("minReadySeconds") or 0
        if min_ready and status["numberReady"] != status.get("numberAvailable", 0):
            self.queue.add_after(key, min_ready)
