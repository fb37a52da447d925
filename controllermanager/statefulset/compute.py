"""The order in which a StatefulSet's pods are made, replaced and removed. Pure.

One call gives the next steps only: with ordered management that is one pod at a time, and the
controller comes back when that pod's state changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of
from pilothouse.controllermanager.intstr import scaled_value
from pilothouse.controllermanager.pods import (
    is_available,
    is_deleted,
    is_ready,
    is_terminal,
    phase_of,
)
from pilothouse.controllermanager.replicaset import replicas_of
from pilothouse.controllermanager.statefulset import identity
from pilothouse.controllermanager.statefulset.identity import ordinal_of, revision_of


@dataclass(slots=True)
class Steps:
    create: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    repair: list[Obj] = field(default_factory=list)
    """Pods whose identity or storage is not what it should be."""
    claims: list[Obj] = field(default_factory=list)
    """Pods that are pending and may lack their claims."""
    condemned: list[Obj] = field(default_factory=list)
    """Pods beyond the range, whose claims may have to change hands."""


def is_created(pod: Obj) -> bool:
    return bool(phase_of(pod)) or bool(meta(pod).get("uid"))


def is_running_and_ready(pod: Obj) -> bool:
    return phase_of(pod) == "Running" and is_ready(pod)


def is_parallel(stateful_set: Obj) -> bool:
    return bool(get_nested(stateful_set, "spec", "podManagementPolicy") == "Parallel")


class SetSync:
    def __init__(
        self,
        stateful_set: Obj,
        pods: Sequence[Obj],
        current: tuple[str, Obj],
        update: tuple[str, Obj],
        now: float,
    ) -> None:
        """``current`` and ``update``: name and template of the two revisions."""
        self.set = stateful_set
        self.pods = pods
        self.current_name, self.current_template = current
        self.update_name, self.update_template = update
        self.now = now
        self.monotonic = not is_parallel(stateful_set)
        self.min_ready = stateful_set["spec"].get("minReadySeconds") or 0
        self.steps = Steps()
        self.replicas: list[Obj] = []
        self._sort_pods()

    def _sort_pods(self) -> None:
        present = {ordinal_of(pod): pod for pod in self.pods}
        start = identity.start_ordinal(self.set)
        wanted = range(start, start + replicas_of(self.set))
        self.replicas = [present.get(n) or self._new_pod(n) for n in wanted]
        beyond = [pod for n, pod in present.items() if n >= 0 and n not in wanted]
        self.steps.condemned = sorted(beyond, key=ordinal_of, reverse=True)

    def _new_pod(self, ordinal: int) -> Obj:
        """From the old revision while the update has not come to this ordinal."""
        strategy = self.set["spec"].get("updateStrategy") or {}
        start = identity.start_ordinal(self.set)
        old = False
        if strategy.get("type", "RollingUpdate") == "RollingUpdate":
            rolling = strategy.get("rollingUpdate")
            if rolling is None:
                settled = get_nested(self.set, "status", "currentReplicas", default=0)
                old = ordinal < start + settled
            else:
                old = ordinal < start + (rolling.get("partition") or 0)
        name, template = (
            (self.current_name, self.current_template)
            if old
            else (self.update_name, self.update_template)
        )
        return identity.make_pod(self.set, template, ordinal, name)

    def _available(self, pod: Obj) -> bool:
        return is_available(pod, self.min_ready, self.now)

    def _unavailable(self, pod: Obj) -> bool:
        return not self._available(pod) or is_deleted(pod)

    def plan(self) -> Steps:
        if is_deleted(self.set):
            return self.steps
        for pod in self.replicas:
            if self._process_replica(pod) and self.monotonic:
                return self.steps
        first_unhealthy = self._first_unavailable()
        for pod in self.steps.condemned:
            if self._process_condemned(pod, first_unhealthy) and self.monotonic:
                return self.steps
        strategy = self.set["spec"].get("updateStrategy") or {}
        busy = self.steps.create or self.steps.delete
        if not busy and strategy.get("type", "RollingUpdate") == "RollingUpdate":
            self._roll(strategy.get("rollingUpdate") or {})
        return self.steps

    def _first_unavailable(self) -> Obj | None:
        ordered = [*self.replicas, *reversed(self.steps.condemned)]
        return next((pod for pod in ordered if self._unavailable(pod)), None)

    def _process_replica(self, pod: Obj) -> bool:
        """True: with ordered management nothing after this pod may happen yet."""
        if is_terminal(pod):
            if not is_deleted(pod):
                self.steps.delete.append(pod)
            return True
        if not is_created(pod):
            self.steps.create.append(pod)
            return True
        if phase_of(pod) == "Pending":
            self.steps.claims.append(pod)
        waiting = is_deleted(pod) or not is_running_and_ready(pod) or not self._available(pod)
        if waiting and self.monotonic:
            return True
        if not identity.identity_matches(self.set, pod) or not identity.storage_matches(
            self.set, pod
        ):
            self.steps.repair.append(pod)
        return False

    def _process_condemned(self, pod: Obj, first_unhealthy: Obj | None) -> bool:
        if is_deleted(pod):
            return True
        healthy = is_running_and_ready(pod) and self._available(pod)
        if not healthy and self.monotonic and pod is not first_unhealthy:
            return True
        self.steps.delete.append(pod)
        return True

    def _roll(self, rolling: Obj) -> None:
        """Deletes outdated pods from the highest ordinal down, within maxUnavailable."""
        partition = rolling.get("partition") or 0
        limit = scaled_value(
            rolling.get("maxUnavailable"), replicas_of(self.set), round_up=False, default=1
        )
        unavailable = sum(map(self._unavailable, self.replicas))
        budget = max(1, limit) - unavailable
        outdated = [
            pod
            for pod in reversed(self.replicas[partition:])
            if revision_of(pod) != self.update_name and not is_deleted(pod)
        ]
        if is_parallel(self.set):
            broken = [pod for pod in outdated if not self._available(pod)]
            self.steps.delete += broken
            outdated = [pod for pod in outdated if self._available(pod)]
        self.steps.delete += outdated[: max(0, budget)]

    def status(self, done: Steps) -> Obj:
        """The counts, with what was just created and deleted taken in."""
        counts = dict.fromkeys(
            ("readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"), 0
        )
        pods = [*self.pods, *done.create]
        going = {name_of(pod) for pod in done.delete}
        for pod in pods:
            if is_running_and_ready(pod):
                counts["readyReplicas"] += 1
                counts["availableReplicas"] += self._available(pod)
            if not is_deleted(pod) and name_of(pod) not in going:
                counts["currentReplicas"] += revision_of(pod) == self.current_name
                counts["updatedReplicas"] += revision_of(pod) == self.update_name
        old = self.set.get("status") or {}
        status: Obj = {
            "observedGeneration": meta(self.set).get("generation") or 0,
            "replicas": len(pods),
            "availableReplicas": counts["availableReplicas"],
            "currentRevision": self.current_name,
            "updateRevision": self.update_name,
            "collisionCount": old.get("collisionCount") or 0,
        }
        desired = replicas_of(self.set)
        updated, ready = counts["updatedReplicas"], counts["readyReplicas"]
        if updated == ready == len(pods) == desired:
            counts["currentReplicas"] = updated
            status["currentRevision"] = self.update_name
        status |= {name: count for name, count in counts.items() if count}
        if old.get("conditions"):
            status["conditions"] = old["conditions"]
        return status
