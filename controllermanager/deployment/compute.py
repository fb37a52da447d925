"""What one sync of a Deployment does: objects in, a :class:`Plan` out. Pure.

The plan is made on copies: each scaling changes the copy, so later decisions of the same sync
see it. The controller carries the writes out in order and writes the status last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    uid_of,
)
from pilothouse.controllermanager.deployment import revisions, scaling, status
from pilothouse.controllermanager.deployment.revisions import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    REVISION,
    annotations_of,
    creation_order,
)
from pilothouse.controllermanager.pods import is_deleted, is_terminal
from pilothouse.controllermanager.replicaset import replicas_of


@dataclass(slots=True)
class Write:
    """One write of a ReplicaSet and the event that its success is worth ("" for none)."""

    verb: Literal["create", "update", "delete"]
    obj: Obj
    message: str = ""


@dataclass(slots=True)
class Plan:
    writes: list[Write] = field(default_factory=list)
    status: Obj = field(default_factory=dict)
    revision: str = ""
    """The deployment's revision annotation should be this ("": leave it)."""
    check_after: float | None = None
    """Seconds until the progress deadline has to be looked at again (0: soon)."""


def compute(
    deployment: Obj,
    replica_sets: Sequence[Obj],
    pods: Mapping[str, Sequence[Obj]],
    now: float,
    timestamp: str,
) -> Plan:
    """``replica_sets`` are the deployment's own; ``pods`` are those of each by its uid (only
    asked for when the strategy is Recreate).

    :raises ValueError: maxSurge or maxUnavailable is no number or percentage.
    """
    return _Sync(deployment, replica_sets, pods, now, timestamp).run()


class _Sync:
    def __init__(
        self,
        deployment: Obj,
        replica_sets: Sequence[Obj],
        pods: Mapping[str, Sequence[Obj]],
        now: float,
        timestamp: str,
    ) -> None:
        self.deployment: Obj = copy_object(deployment)
        self.deployment.setdefault("status", {})
        own: list[Obj] = copy_object(list(replica_sets))
        self.new = revisions.find_new(deployment, own)
        self.old = [rs for rs in own if rs is not self.new]
        self.pods = pods
        self.now = now
        self.timestamp = timestamp
        self.plan = Plan()

    @property
    def everything(self) -> list[Obj]:
        return [*self.old, self.new] if self.new is not None else list(self.old)

    def run(self) -> Plan:
        deployment = self.deployment
        if is_deleted(deployment):
            self.sync_new(create=False)
            return self.finish_counted()
        self.note_pause()
        if deployment["spec"].get("paused"):
            return self.scale_only()
        if self.is_scaling_event():
            return self.scale_only()
        if scaling.is_rolling_update(deployment):
            return self.roll()
        return self.recreate()

    # The new ReplicaSet.

    def sync_new(self, *, create: bool) -> None:
        """Gives the new ReplicaSet its revision and annotations, and makes it if asked to."""
        revision = revisions.max_revision(self.old) + 1
        if self.new is not None:
            self.refresh_new(self.new, revision)
        elif create:
            self.create_new(revision)

    def refresh_new(self, new: Obj, revision: int) -> None:
        annotations = revisions.new_annotations(self.deployment, new, revision)
        min_ready = self.deployment["spec"].get("minReadySeconds") or 0
        if annotations != annotations_of(new) or min_ready != (
            new["spec"].get("minReadySeconds") or 0
        ):
            new["metadata"]["annotations"] = annotations
            new["spec"]["minReadySeconds"] = min_ready
            self.write_update(new)
        self.plan.revision = annotations.get(REVISION, "")
        if status.has_progress_deadline(self.deployment):
            if condition_of(self.deployment, "Progressing") is None:
                message = f'Found new replica set "{name_of(new)}"'
                self.progressing("True", status.FOUND_NEW, message)

    def create_new(self, revision: int) -> None:
        new = revisions.make_replica_set(self.deployment)
        size = scaling.new_replicas(self.deployment, [*self.old, new], new)
        new["spec"]["replicas"] = size
        new["metadata"]["annotations"] = revisions.new_annotations(self.deployment, new, revision)
        new["metadata"]["annotations"] |= self.replicas_annotations()
        message = f"Scaled up replica set {name_of(new)} from 0 to {size}" if size else ""
        self.plan.writes.append(Write("create", new, message))
        self.new = new
        self.plan.revision = str(revision)
        if status.has_progress_deadline(self.deployment):
            message = f'Created new replica set "{name_of(new)}"'
            self.progressing("True", status.NEW_CREATED, message)

    def progressing(self, value: str, reason: str, message: str) -> None:
        new = status.condition("Progressing", value, reason, message, self.timestamp)
        status.set_condition(self.deployment["status"], new)

    # Pausing and scaling.

    def note_pause(self) -> None:
        deployment = self.deployment
        current = condition_of(deployment, "Progressing")
        if not status.has_progress_deadline(deployment):
            return
        if current is not None and current.get("reason") == status.TIMED_OUT:
            return
        noted = current is not None and current.get("reason") == status.PAUSED
        paused = bool(deployment["spec"].get("paused"))
        if paused and not noted:
            self.progressing("Unknown", status.PAUSED, "Deployment is paused")
        elif noted and not paused:
            self.progressing("Unknown", status.RESUMED, "Deployment is resumed")

    def is_scaling_event(self) -> bool:
        desired = replicas_of(self.deployment)
        seen = (
            scaling.replicas_annotation(rs, DESIRED_REPLICAS)
            for rs in scaling.active(self.everything)
        )
        return any(value is not None and value != desired for value in seen)

    def scale_only(self) -> Plan:
        """Follows ``spec.replicas`` without moving the rollout."""
        self.sync_new(create=False)
        self.scale()
        if self.deployment["spec"].get("paused"):
            self.clean_up()
        return self.finish_counted()

    def scale(self) -> None:
        deployment = self.deployment
        single = scaling.active_or_latest(self.new, self.old)
        if single is not None:
            if replicas_of(single) != replicas_of(deployment):
                self.set_replicas(single, replicas_of(deployment))
        elif scaling.is_saturated(deployment, self.new):
            for replica_set in scaling.active(self.old):
                self.set_replicas(replica_set, 0)
        elif scaling.is_rolling_update(deployment):
            running = scaling.active(self.everything)
            for replica_set, size in scaling.proportional_sizes(deployment, running):
                self.set_replicas(replica_set, size, force=True)

    def set_replicas(self, replica_set: Obj, size: int, *, force: bool = False) -> bool:
        """True when the size changes."""
        before = replicas_of(replica_set)
        if before == size and not force:
            return False
        annotations = {**annotations_of(replica_set), **self.replicas_annotations()}
        if before == size and annotations == annotations_of(replica_set):
            return False
        replica_set["spec"]["replicas"] = size
        replica_set["metadata"]["annotations"] = annotations
        message = ""
        if before != size:
            way = "up" if before < size else "down"
            message = f"Scaled {way} replica set {name_of(replica_set)} from {before} to {size}"
        self.write_update(replica_set, message)
        return before != size

    def write_update(self, replica_set: Obj, message: str = "") -> None:
        for write in self.plan.writes:
            if write.obj is replica_set:  # one write a ReplicaSet and sync is enough
                write.message = message or write.message
                return
        self.plan.writes.append(Write("update", replica_set, message))

    def replicas_annotations(self) -> dict[str, str]:
        desired = replicas_of(self.deployment)
        return {
            DESIRED_REPLICAS: str(desired),
            MAX_REPLICAS: str(desired + scaling.max_surge(self.deployment)),
        }

    # Rolling update.

    def roll(self) -> Plan:
        self.sync_new(create=True)
        assert self.new is not None
        if self.grow_new(self.new) or self.shrink_old(self.new):
            return self.finish_rollout()
        if status.is_complete(self.deployment, self.deployment["status"]):
            self.clean_up()
        return self.finish_rollout()

    def grow_new(self, new: Obj) -> bool:
        desired, current = replicas_of(self.deployment), replicas_of(new)
        if current == desired:
            return False
        if current > desired:
            return self.set_replicas(new, desired)
        size = scaling.new_replicas(self.deployment, self.everything, new)
        return self.set_replicas(new, size)

    def shrink_old(self, new: Obj) -> bool:
        old = sorted(scaling.active(self.old), key=creation_order)
        if not old:
            return False
        allowed = scaling.may_scale_down(self.deployment, self.everything, new)
        if allowed <= 0:
            return False
        cleaned = self.drop_unhealthy(old, allowed)
        return cleaned + self.drop_healthy(old, new) > 0

    def drop_unhealthy(self, old: Sequence[Obj], allowed: int) -> int:
        """Old pods that serve nobody go first, whatever that does to availability: nothing."""
        dropped = 0
        for replica_set in old:
            current = replicas_of(replica_set)
            unhealthy = current - scaling.status_count((replica_set,), "availableReplicas")
            count = min(allowed - dropped, unhealthy)
            if count > 0:
                self.set_replicas(replica_set, current - count)
                dropped += count
        return dropped

    def drop_healthy(self, old: Sequence[Obj], new: Obj) -> int:
        minimum = replicas_of(self.deployment) - scaling.max_unavailable(self.deployment)
        available = scaling.status_count([*old, new], "availableReplicas")
        spare, dropped = available - minimum, 0
        for replica_set in old:
            count = min(replicas_of(replica_set), spare - dropped)
            if count > 0:
                self.set_replicas(replica_set, replicas_of(replica_set) - count)
                dropped += count
        return dropped

    # Recreate.

    def recreate(self) -> Plan:
        self.sync_new(create=False)
        scaled = [self.set_replicas(rs, 0) for rs in scaling.active(self.old)]
        if any(scaled) or self.old_pods_running():
            return self.finish_rollout()
        if self.new is None:
            self.sync_new(create=True)
        assert self.new is not None
        self.set_replicas(self.new, replicas_of(self.deployment))
        if status.is_complete(self.deployment, self.deployment["status"]):
            self.clean_up()
        return self.finish_rollout()

    def old_pods_running(self) -> bool:
        if scaling.status_count(self.old, "replicas") > 0:
            return True
        own = uid_of(self.new) if self.new is not None else ""
        return any(
            not is_terminal(pod)
            for uid, pods in self.pods.items()
            if not own or uid != own
            for pod in pods
        )

    # The end of a sync.

    def clean_up(self) -> None:
        """Deletes the oldest empty ReplicaSets beyond the history limit."""
        limit = self.deployment["spec"].get("revisionHistoryLimit")
        if limit is None or limit == scaling.MAX_INT32:
            return
        alive = [rs for rs in self.old if not is_deleted(rs)]
        alive.sort(key=lambda rs: (revisions.revision_of(rs) or 0, creation_order(rs)))
        for replica_set in alive[: max(0, len(alive) - limit)]:
            observed = get_nested(replica_set, "status", "observedGeneration", default=0)
            if (
                scaling.status_count((replica_set,), "replicas") == 0
                and replicas_of(replica_set) == 0
                and (meta(replica_set).get("generation") or 0) <= observed
            ):
                self.plan.writes.append(Write("delete", replica_set))

    def finish_counted(self) -> Plan:
        self.plan.status = status.counted(
            self.deployment, self.everything, self.new, self.timestamp
        )
        return self.plan

    def finish_rollout(self) -> Plan:
        self.plan.status = status.rollout_status(
            self.deployment, self.everything, self.new, self.now, self.timestamp
        )
        self.plan.check_after = status.next_progress_check(
            {**self.deployment, "status": self.plan.status}, self.plan.status, self.now
        )
        return self.plan
