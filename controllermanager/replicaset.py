"""As many pods as a ReplicaSet or ReplicationController asks for.

:func:`compute_status` and :func:`pods_to_delete` are the pure part; one controller class serves
both kinds, which differ in their selector and in the name of their events' source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.labels import selector_from_label_selector, selector_from_map
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
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
    with_status,
)
from pilothouse.controllermanager.controller_ref import (
    RefManager,
    controller_reference,
    is_controlled_by,
)
from pilothouse.controllermanager.expectations import Expectations
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING, PodControl
from pilothouse.controllermanager.pod_tally import Group, PodTally
from pilothouse.kubeclient.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS

if TYPE_CHECKING:
    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.interfaces import Environment

BURST_REPLICAS = 500
STATUS_UPDATE_RETRIES = 1
OWNER_INDEX = "controllerUID"


def replicas_of(obj: Obj) -> int:
    """``spec.replicas``, which the server defaults to 1."""
    return get_nested(obj, "spec", "replicas", default=1) if _has_replicas(obj) else 1


def _has_replicas(obj: Obj) -> bool:
    return get_nested(obj, "spec", "replicas") is not None


def selector_of(obj: Obj) -> Selector:
    """The pods it selects; a ReplicationController's selector is a plain map."""
    selector = get_nested(obj, "spec", "selector")
    if obj.get("kind") == "ReplicationController":
        return selector_from_map(selector or {})
    return selector_from_label_selector(selector)


def pods_to_delete(
    pods: Sequence[Obj], related: Sequence[Obj], count: int, now: float
) -> list[Obj]:
    """Which ``count`` of the active pods go; ``related`` are those of sibling ReplicaSets."""
    if count < len(pods):
        return podutil.rank_for_deletion(pods, related, now)[:count]
    return list(pods[:count])


@dataclass(slots=True)
class Counts:
    """Of an owner's pods; ``terminating`` is None where nobody asks for it."""

    active: int = 0
    ready: int = 0
    available: int = 0
    labeled: int = 0
    terminating: int | None = None


def count(
    owner: Obj, active: Sequence[Obj], terminating: Sequence[Obj] | None, now: float
) -> Counts:
    """The slow way, pod by pod."""
    template_labels = _template_labels(owner)
    min_ready = get_nested(owner, "spec", "minReadySeconds", default=0)
    ready = [pod for pod in active if podutil.is_ready(pod)]
    return Counts(
        len(active),
        len(ready),
        sum(podutil.is_available(pod, min_ready, now) for pod in ready),
        sum(template_labels.matches(meta(pod).get("labels")) for pod in active),
        None if terminating is None else len(terminating),
    )


def count_groups(
    owner: Obj, selector: Selector, own: Iterable[Group], orphans: Iterable[Group]
) -> Counts | None:
    """The same from a tally; None when pods have to be looked at one by one, because some are to
    be adopted or released or become available by time alone."""
    if get_nested(owner, "spec", "minReadySeconds", default=0):
        return None
    if any(group.active and selector.matches(group.labels) for group in orphans):
        return None
    template_labels = _template_labels(owner)
    counts = Counts(terminating=0)
    for group in own:
        if not selector.matches(group.labels):
            if group.active:
                return None
            continue
        counts.active += group.active
        counts.ready += group.ready
        counts.terminating = (counts.terminating or 0) + group.terminating
        if template_labels.matches(group.labels):
            counts.labeled += group.active
    counts.available = counts.ready
    return counts


def _template_labels(owner: Obj) -> Selector:
    return selector_from_map(
        get_nested(owner, "spec", "template", "metadata", "labels", default={})
    )


def compute_status(owner: Obj, counts: Counts, failure: str, timestamp: str) -> Obj:
    """The new status; ``failure`` is what went wrong with the pods ("" for nothing)."""
    numbers = {
        "fullyLabeledReplicas": counts.labeled,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "observedGeneration": meta(owner).get("generation") or 0,
    }
    status: Obj = {"replicas": counts.active}
    status |= {field: number for field, number in numbers.items() if number}
    if counts.terminating is not None:
        status["terminatingReplicas"] = counts.terminating
    conditions = list(get_nested(owner, "status", "conditions", default=()))
    present = condition_of(owner, "ReplicaFailure")
    if failure and present is None:
        too_few = counts.active < replicas_of(owner)
        conditions.append(
            {
                "type": "ReplicaFailure",
                "status": "True",
                "lastTransitionTime": timestamp,
                "reason": "FailedCreate" if too_few else "FailedDelete",
                "message": failure,
            }
        )
    elif not failure and present is not None:
        conditions = [c for c in conditions if c.get("type") != "ReplicaFailure"]
    if conditions:
        status["conditions"] = conditions
    return status


class ReplicaSetController(Controller):
    """Creates and deletes pods until as many are active as wanted, and reports the counts."""

    name = "replicaset-controller"
    resource: GroupVersionResource = REPLICA_SETS
    kind = "ReplicaSet"
    max_retries = None
    counts_terminating = True

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers, component=self.component())
        self._expectations = Expectations()
        self._pod_control = PodControl(self.client, self.recorder)
        self._sets = self.watch(self.resource, self.enqueue, self._set_updated, self._set_deleted)
        self._sets.add_index(OWNER_INDEX, _owner_uid)
        tally = self._tally = PodTally(self.kind)
        self.watch(PODS, tally.added, tally.updated, tally.removed)
        self._pods = self.watch(PODS, self._pod_added, self._pod_updated, self._pod_deleted)
        self._pods.add_index(podutil.CONTROLLER_INDEX, podutil.controller_index)

    def component(self) -> str:
        return self.name

    # Events.

    def _set_updated(self, old: Obj, new: Obj) -> None:
        if uid_of(old) != uid_of(new):
            self._set_deleted(old)
        self.enqueue(new)

    def _set_deleted(self, obj: Obj) -> None:
        self._expectations.forget(object_key(obj))
        self.enqueue(obj)

    def _resolve(self, namespace: str, reference: Obj | None) -> Obj | None:
        """The owner that a reference means, if it is one of ours."""
        if reference is None or reference.get("kind") != self.kind:
            return None
        owner = self._sets.get(f"{namespace}/{reference.get('name')}")
        return owner if owner is not None and uid_of(owner) == reference.get("uid") else None

    def _enqueue_matching(self, pod: Obj) -> None:
        """All that could adopt an orphan."""
        labels = meta(pod).get("labels")
        if not labels:
            return
        for owner in self._sets.list(namespace_of(pod)):
            selector = selector_of(owner)
            if not selector.empty and selector.matches(labels):
                self.enqueue(owner)

    def _pod_added(self, pod: Obj) -> None:
        if podutil.is_deleted(pod):
            self._pod_deleted(pod)
            return
        reference = controller_of(pod)
        if reference is None:
            self._enqueue_matching(pod)
            return
        owner = self._resolve(namespace_of(pod), reference)
        if owner is not None:
            self._expectations.creation_observed(object_key(owner))
            self.enqueue(owner)

    def _pod_updated(self, old: Obj, pod: Obj) -> None:
        labels_changed = meta(old).get("labels") != meta(pod).get("labels")
        if podutil.is_deleted(pod):
            self._pod_deleted(pod)
            if labels_changed:
                self._pod_deleted(old)
            return
        reference, before = controller_of(pod), controller_of(old)
        if before is not None and before != reference:
            former = self._resolve(namespace_of(old), before)
            if former is not None:
                self.enqueue(former)
        if reference is None:
            if labels_changed or before is not None:
                self._enqueue_matching(pod)
            return
        owner = self._resolve(namespace_of(pod), reference)
        if owner is None:
            return
        self.enqueue(owner)
        min_ready = get_nested(owner, "spec", "minReadySeconds", default=0)
        if min_ready and podutil.is_ready(pod) and not podutil.is_ready(old):
            self.queue.add_after(object_key(owner), min_ready)

    def _pod_deleted(self, pod: Obj) -> None:
        owner = self._resolve(namespace_of(pod), controller_of(pod))
        if owner is not None:
            self._expectations.deletion_observed(object_key(owner), object_key(pod))
            self.enqueue(owner)

    # Sync.

    async def sync(self, key: str) -> None:
        owner = self._sets.get(key)
        if owner is None:
            self._expectations.forget(key)
            return
        may_manage = self._expectations.satisfied(key, self.now())
        try:
            selector = selector_of(owner)
        except ValueError:
            return
        now = self.now()
        counts = self._tallied(owner, selector)
        active: list[Obj] = []
        if counts is None or (may_manage and counts.active > replicas_of(owner)):
            active, counts = await self._claim(owner, selector, now)
        failure: BaseException | None = None
        if may_manage and not podutil.is_deleted(owner):
            failure = await self._manage(key, owner, active, counts.active)
        status = compute_status(owner, counts, str(failure) if failure else "", self.timestamp())
        await self._write_status(owner, status)
        if failure is not None:
            raise failure
        min_ready = get_nested(owner, "spec", "minReadySeconds", default=0)
        if min_ready and status.get("readyReplicas", 0) != status.get("availableReplicas", 0):
            wait = podutil.next_availability_check(active, min_ready, now)
            self.queue.add_after(key, min_ready if wait is None else wait)

    def _tallied(self, owner: Obj, selector: Selector) -> Counts | None:
        namespace = namespace_of(owner)
        mine = podutil.controller_index_key(namespace, controller_reference(owner))
        orphans = () if podutil.is_deleted(owner) else self._tally.groups(namespace)
        counts = count_groups(owner, selector, self._tally.groups(mine), orphans)
        if counts is not None and not self.counts_terminating:
            counts.terminating = None
        return counts

    async def _claim(self, owner: Obj, selector: Selector, now: float) -> tuple[list[Obj], Counts]:
        """The active pods, after adoptions and releases, and their counts."""
        candidates = self._candidates(owner)
        references = RefManager(self.client, self.resource, owner, selector, PODS)
        active = await references.claim([p for p in candidates if podutil.is_active(p)])
        terminating = None
        if self.counts_terminating:
            terminating = [
                pod
                for pod in candidates
                if podutil.is_terminating(pod)
                and is_controlled_by(pod, owner)
                and selector.matches(meta(pod).get("labels"))
            ]
        return active, count(owner, active, terminating, now)

    def _candidates(self, owner: Obj) -> list[Obj]:
        """The owner's pods and the namespace's orphans."""
        namespace = namespace_of(owner)
        mine = podutil.controller_index_key(namespace, controller_reference(owner))
        return [
            *self._pods.by_index(podutil.CONTROLLER_INDEX, mine),
            *self._pods.by_index(podutil.CONTROLLER_INDEX, namespace),
        ]

    async def _manage(
        self, key: str, owner: Obj, active: list[Obj], number: int
    ) -> BaseException | None:
        """``active`` may be left out when there are ``number`` and none too many."""
        difference = number - replicas_of(owner)
        if difference < 0:
            return await self._create_pods(key, owner, min(-difference, BURST_REPLICAS))
        if difference > 0:
            return await self._delete_pods(key, owner, active, min(difference, BURST_REPLICAS))
        return None

    async def _create_pods(self, key: str, owner: Obj, count: int) -> BaseException | None:
        self._expectations.expect(key, creations=count, now=self.now())
        reference = controller_reference(owner)
        template = owner["spec"].get("template") or {}

        async def create() -> None:
            pod = podutil.pod_from_template(template, owner, reference)
            try:
                await self._pod_control.create(pod, owner)
            except StatusError as error:
                # The namespace goes away and takes the owner along: nothing to retry.
                if not error.has_cause(NAMESPACE_TERMINATING):
                    raise

        created, failure = await slow_start_batch(count, create)
        self._expectations.creation_observed(key, count - created)
        return failure

    async def _delete_pods(
        self, key: str, owner: Obj, active: list[Obj], count: int
    ) -> BaseException | None:
        doomed = pods_to_delete(active, self._related_pods(owner), count, self.now())
        self._expectations.expect(key, deletions=map(object_key, doomed), now=self.now())

        async def delete(pod: Obj) -> None:
            try:
                await self._pod_control.delete(pod, owner)
            except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
                self._expectations.deletion_observed(key, object_key(pod))
                if not is_not_found(error):
                    raise

        try:
            await gather_writes([delete(pod) for pod in doomed])
        except (StatusError, SyncError, ConnectionError, TimeoutError) as error:
            return error
        return None

    def _related_pods(self, owner: Obj) -> list[Obj]:
        """Pods of all sets with the same controller (a Deployment's other ReplicaSets)."""
        reference = controller_of(owner)
        if reference is None:
            return []
        found: dict[str, Obj] = {}
        for sibling in self._sets.by_index(OWNER_INDEX, reference["uid"]):
            for pod in self._pods.list(namespace_of(sibling), selector_of(sibling)):
                found[uid_of(pod)] = pod
        return list(found.values())

    async def _write_status(self, owner: Obj, status: Obj) -> None:
        if _comparable(owner.get("status") or {}) == _comparable(status):
            return
        for attempt in range(STATUS_UPDATE_RETRIES + 1):
            try:
                await self.client.update(
                    self.resource, with_status(owner, status), subresource="status"
                )
                return
            except StatusError as error:
                if attempt == STATUS_UPDATE_RETRIES or is_not_found(error):
                    raise
                owner = await self.client.get(self.resource, name_of(owner), namespace_of(owner))


def _comparable(status: Obj) -> Obj:
    """Absent and zero counts are the same, but terminatingReplicas 0 is not absent."""
    return {k: v for k, v in status.items() if v or k == "terminatingReplicas"}


def _owner_uid(obj: Obj) -> tuple[str, ...]:
    reference = controller_of(obj)
    return (reference["uid"],) if reference else ()


class ReplicationControllerController(ReplicaSetController):
    """The same for ReplicationControllers (upstream's replication manager)."""

    name = "replicationcontroller-controller"
    resource = REPLICATION_CONTROLLERS
    kind = "ReplicationController"
    counts_terminating = False

    def component(self) -> str:
        return "replication-controller"
