"""Runs Jobs: reads pods, lets ``job_sync`` decide, writes pods and status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.controllermanager import pods as podutil
from pilothouse.controllermanager.controller import (
    Controller,
    SyncError,
    gather_writes,
    slow_start_batch,
)
from pilothouse.controllermanager.controller_ref import RefManager, controller_reference
from pilothouse.controllermanager.expectations import Expectations
from pilothouse.controllermanager.job.conditions import (
    TRACKING_FINALIZER,
    has_finalizer,
    is_finished,
)
from pilothouse.controllermanager.job.failures import BackoffRecord
from pilothouse.controllermanager.job.job_sync import JobSync, Plan
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING, PodControl
from pilothouse.controllermanager.stable_metrics import JobMetrics
from pilothouse.kubeclient.resources import JOBS, PODS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

MANAGER = "kubernetes.io/job-controller"
_ORPHAN = "orphan/"


class JobController(Controller):
    """Keys are jobs, and ``orphan/<pod>`` for pods whose job no longer needs their finalizer."""

    name = "job-controller"
    max_retries = None
    retry_delays = (1.0, 60.0)

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._expectations = Expectations()
        self._pod_control = PodControl(self.client, self.recorder)
        self._backoff: dict[str, BackoffRecord] = {}
        self._losing: dict[str, set[str]] = {}
        """Pods by job whose finalizer was removed but is still there for the informer."""
        self._metrics = JobMetrics()
        self.own_metrics = self._metrics.all()
        self._written: dict[str, str] = {}
        """The resourceVersion that our last status write gave a job."""
        self._jobs = self.watch(JOBS, self.enqueue, lambda _, new: self.enqueue(new), self._gone)
        self._pods = self.watch(PODS, self._pod_added, self._pod_updated, self._pod_deleted)
        self._pods.add_index(podutil.CONTROLLER_INDEX, podutil.controller_index)

    # Events.

    def _gone(self, job: Obj) -> None:
        key = object_key(job)
        self._expectations.forget(key)
        self.enqueue(job)
        for pod in self._candidates(job):
            if has_finalizer(pod):
                self.queue.add(_ORPHAN + object_key(pod))

    def _resolve(self, pod: Obj) -> Obj | None:
        reference = controller_of(pod)
        if reference is None or reference.get("kind") != "Job":
            return None
        job = self._jobs.get(f"{namespace_of(pod)}/{reference.get('name')}")
        return job if job is not None and uid_of(job) == reference.get("uid") else None

    def _pod_added(self, pod: Obj) -> None:
        if podutil.is_deleted(pod):
            self._pod_deleted(pod)
            return
        job = self._resolve(pod)
        if job is not None:
            self._expectations.creation_observed(object_key(job))
            self.enqueue(job)
        if has_finalizer(pod) and (job is None or is_finished(job)):
            self.queue.add(_ORPHAN + object_key(pod))
        elif controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _enqueue_matching(self, pod: Obj) -> None:
        labels = meta(pod).get("labels")
        for job in self._jobs.list(namespace_of(pod)) if labels else ():
            selector = selector_from_label_selector(get_nested(job, "spec", "selector"))
            if not selector.empty and selector.matches(labels):
                self.enqueue(job)

    def _pod_updated(self, old: Obj, pod: Obj) -> None:
        job = self._resolve(pod)
        before = self._resolve(old)
        if before is not None and controller_of(old) != controller_of(pod):
            self.enqueue(before)
        if job is not None:
            self._notice_removed(job, pod)
            if podutil.is_deleted(pod):
                self._expectations.deletion_observed(object_key(job), object_key(pod))
            self.enqueue(job)
        if has_finalizer(pod) and (job is None or is_finished(job)):
            self.queue.add(_ORPHAN + object_key(pod))

    def _pod_deleted(self, pod: Obj) -> None:
        job = self._resolve(pod)
        if job is not None:
            self._expectations.deletion_observed(object_key(job), object_key(pod))
            self._losing.get(object_key(job), set()).discard(uid_of(pod))
            self.enqueue(job)

    def _notice_removed(self, job: Obj, pod: Obj) -> None:
        if not has_finalizer(pod):
            self._losing.get(object_key(job), set()).discard(uid_of(pod))

    # Sync.

    async def sync(self, key: str) -> None:
        if key.startswith(_ORPHAN):
            await self._sync_orphan(key.removeprefix(_ORPHAN))
            return
        job = self._jobs.get(key)
        if job is None or is_finished(job):
            self._forget(key)
            return
        if get_nested(job, "spec", "managedBy", default=MANAGER) != MANAGER:
            return
        if self._is_stale(key, job):
            return
        mode = get_nested(job, "spec", "completionMode", default="NonIndexed")
        if mode not in ("NonIndexed", "Indexed"):
            message = "Skipped Job sync because completion mode is unknown"
            self.recorder.event(job, "Warning", "UnknownCompletionMode", message)
            return
        begin = self.clock.monotonic()
        action, failed = ["reconciling"], True
        try:
            await self._sync(key, job, action)
            failed = False
        finally:
            seconds = self.clock.monotonic() - begin
            self._metrics.synced(mode, seconds, action[0], failed=failed)

    async def _sync(self, key: str, job: Obj, action: list[str]) -> None:
        """``action`` is told what was done."""
        satisfied = self._expectations.satisfied(key, self.now())
        pods = await self._claim(job)
        sync = JobSync(
            job,
            pods,
            self._losing.get(key, ()),
            self._backoff.get(key, BackoffRecord()),
            self.now(),
            self.timestamp(),
        )
        plan = sync.plan(satisfied=satisfied)
        if plan.delete:
            action[0] = "pods_deleted"
        elif plan.create:
            action[0] = "pods_created"
        failure = await self._write_pods(key, job, sync, plan)
        changed = sync.conclude(plan, satisfied=satisfied)
        await self._track(key, sync, changed)
        if plan.requeue_after is not None:
            self.queue.add_after(key, plan.requeue_after)
        if failure is not None:
            raise failure

    def _forget(self, key: str) -> None:
        for store in (self._backoff, self._losing, self._written):
            store.pop(key, None)
        self._expectations.forget(key)

    def _is_stale(self, key: str, job: Obj) -> bool:
        """Whether the informer has yet to show our last status write (it will wake us)."""
        written = self._written.get(key)
        if written is None:
            return False
        if int(meta(job)["resourceVersion"]) < int(written):
            return True
        del self._written[key]
        return False

    def _candidates(self, job: Obj) -> list[Obj]:
        namespace = namespace_of(job)
        mine = podutil.controller_index_key(namespace, controller_reference(job))
        return self._pods.by_index(podutil.CONTROLLER_INDEX, mine)

    async def _claim(self, job: Obj) -> list[Obj]:
        try:
            selector = selector_from_label_selector(get_nested(job, "spec", "selector"))
        except ValueError as error:
            raise SyncError(f"couldn't convert Job selector: {error}") from error
        orphans = self._pods.by_index(podutil.CONTROLLER_INDEX, namespace_of(job))
        references = RefManager(self.client, JOBS, job, selector, PODS)
        return await references.claim([*self._candidates(job), *orphans])

    async def _write_pods(
        self, key: str, job: Obj, sync: JobSync, plan: Plan
    ) -> BaseException | None:
        if plan.delete:
            return await self._delete_pods(key, job, sync, plan)
        if plan.create:
            return await self._create_pods(key, job, sync, plan.create)
        return None

    async def _create_pods(
        self, key: str, job: Obj, sync: JobSync, pods: list[Obj]
    ) -> BaseException | None:
        self._expectations.expect(key, creations=len(pods), now=self.now())
        waiting = iter(pods)

        async def create() -> None:
            try:
                await self._pod_control.create(next(waiting), job)
            except StatusError as error:
                if not error.has_cause(NAMESPACE_TERMINATING):
                    raise

        created, failure = await slow_start_batch(len(pods), create)
        self._expectations.creation_observed(key, len(pods) - created)
        sync.count(created=created, deleted=())
        return failure

    async def _delete_pods(
        self, key: str, job: Obj, sync: JobSync, plan: Plan
    ) -> BaseException | None:
        if not plan.ends:
            doomed = [object_key(pod) for pod in plan.delete]
            self._expectations.expect(key, deletions=doomed, now=self.now())
        deleted: list[Obj] = []

        async def delete(pod: Obj) -> None:
            try:
                if not plan.keep_finalizers and has_finalizer(pod):
                    await self._strip(pod)
                await self._pod_control.delete(pod, job)
            except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
                self._expectations.deletion_observed(key, object_key(pod))
                if not is_not_found(error):
                    raise
            deleted.append(pod)

        failure: BaseException | None = None
        try:
            await gather_writes([delete(pod) for pod in plan.delete])
        except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
            failure = error
        sync.count(created=0, deleted=deleted)
        return failure

    async def _track(self, key: str, sync: JobSync, changed: bool) -> None:
        pods, flush = sync.track(changed)
        if flush:
            await self._write_status(key, sync)
            self._backoff[key] = sync.backoff
        failure: BaseException | None = None
        if pods:
            removed, failure = await self._remove_finalizers(key, pods)
            flush = sync.forget(removed)
        else:
            flush = False
        finished = failure is None and sync.enact_finished()
        if flush or finished:
            await self._write_status(key, sync)
        if finished:
            self._count_finished(sync)
        for event in sync.events:
            self.recorder.event(sync.job, *event)
        if failure is not None:
            raise failure

    def _count_finished(self, sync: JobSync) -> None:
        mode = get_nested(sync.job, "spec", "completionMode", default="NonIndexed")
        ended = sync.finished or {}
        result = "succeeded" if ended.get("type") == "Complete" else "failed"
        self._metrics.finished.inc(mode, result, ended.get("reason") or "")
        for name in ("succeeded", "failed"):
            count = (sync.job.get("status") or {}).get(name) or 0
            if count:
                self._metrics.pods.inc(mode, name, by=count)

    async def _write_status(self, key: str, sync: JobSync) -> None:
        updated = await self.client.update(JOBS, sync.job, subresource="status")
        version = meta(updated)["resourceVersion"]
        sync.job["metadata"]["resourceVersion"] = version
        self._written[key] = version

    async def _remove_finalizers(
        self, key: str, pods: Sequence[Obj]
    ) -> tuple[list[str], BaseException | None]:
        losing = self._losing.setdefault(key, set())
        losing |= {uid_of(pod) for pod in pods}
        removed: list[str] = []

        async def remove(pod: Obj) -> None:
            try:
                await self._strip(pod)
            except (StatusError, ConnectionError, TimeoutError) as error:
                if not is_not_found(error):
                    losing.discard(uid_of(pod))
                    raise
                # It is gone, but until the informer knows it could be counted once more.
            removed.append(uid_of(pod))

        try:
            await gather_writes([remove(pod) for pod in pods])
        except (StatusError, ConnectionError, TimeoutError) as error:
            return removed, error
        return removed, None

    async def _strip(self, pod: Obj) -> None:
        patch = {
            "metadata": {
                "uid": uid_of(pod),
                "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER],
            }
        }
        await self.client.patch(
            PODS,
            name_of(pod),
            patch,
            "application/strategic-merge-patch+json",
            namespace_of(pod),
        )

    async def _sync_orphan(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or not has_finalizer(pod):
            return
        job = self._resolve(pod)
        if job is not None and not is_finished(job):
            return
        try:
            await self._strip(pod)
        except StatusError as error:
            if not is_not_found(error):
                raise
