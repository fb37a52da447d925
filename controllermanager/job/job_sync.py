"""The decisions of one sync of a Job, step by step. Pure.

The controller calls the steps in order and does the writes in between: ``plan`` (what to delete
and create), ``count`` (what succeeded), ``conclude`` (is it done?), ``track`` (which pods are
counted and may lose their finalizer), ``forget`` (their finalizers are gone), ``enact_finished``. A
finished pod is noted in ``status.uncountedTerminatedPods`` before its finalizer is removed
and counted after, so that no crash loses or doubles one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    name_of,
    uid_of,
)
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.controller_ref import controller_reference
from pilothouse.controllermanager.job import failures, indexes
from pilothouse.controllermanager.job.conditions import (
    TRACKING_FINALIZER,
    has_finalizer,
    is_suspended,
    job_condition,
    with_condition,
)
from pilothouse.controllermanager.job.failures import BackoffRecord, match_policy
from pilothouse.controllermanager.pods import (
    is_active,
    is_deleted,
    is_ready,
    is_terminating,
    phase_of,
    pod_from_template,
)

MAX_PODS_PER_SYNC = 500
MAX_UNCOUNTED = 500
MAX_INT32 = (1 << 31) - 1


@dataclass(slots=True)
class Plan:
    delete: list[Obj] = field(default_factory=list)
    keep_finalizers: bool = False
    """The job is over: its pods are still to be counted."""
    create: list[Obj] = field(default_factory=list)
    requeue_after: float | None = None
    managed: bool = False
    ends: bool = False
    """All active pods are to go because the job is over."""


class JobSync:
    def __init__(
        self,
        job: Obj,
        pods: Sequence[Obj],
        losing_finalizer: Iterable[str],
        backoff: BackoffRecord,
        now: float,
        timestamp: str,
    ) -> None:
        self.job: Obj = copy_object(job)
        self.status: Obj = self.job.setdefault("status", {})
        self.spec: Obj = job.get("spec") or {}
        self.pods = list(pods)
        self.now, self.timestamp = now, timestamp
        self.active_pods = [pod for pod in pods if is_active(pod)]
        self.active = len(self.active_pods)
        self.ready = sum(map(is_ready, self.active_pods))
        self.terminating = sum(map(is_terminating, pods))
        self.indexed = indexes.is_indexed(job)
        self.per_index = self.indexed and self.spec.get("backoffLimitPerIndex") is not None
        self.finished: Obj | None = None
        """SuccessCriteriaMet or FailureTarget, later Complete or Failed."""
        self.events: list[tuple[str, str, str]] = []
        self._losing = set(losing_finalizer)
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self._uncounted = {
            kind: list(uncounted.get(kind) or ()) for kind in ("succeeded", "failed")
        }
        self._policy = self.spec.get("podFailurePolicy")
        self._completions = self.spec.get("completions")
        self._tally(backoff)

    # Counting what has happened.

    def _counted_pods(self, kind: str) -> list[Obj]:
        """Pods that could newly count as finished."""
        known = set(self._uncounted[kind]) | self._losing
        return [
            pod
            for pod in self.pods
            if has_finalizer(pod) and uid_of(pod) not in known and self._has_valid_index(pod)
        ]

    def _has_valid_index(self, pod: Obj) -> bool:
        if not self.indexed:
            return True
        index = indexes.index_of(pod)
        return index is not None and index < (self._completions or 0)

    def _tally(self, backoff: BackoffRecord) -> None:
        succeeded = [p for p in self._counted_pods("succeeded") if phase_of(p) == "Succeeded"]
        failed = [p for p in self._counted_pods("failed") if failures.is_failed(p, self.job)]
        counted = [p for p in failed if match_policy(self._policy, p).counts]
        self.succeeded = (
            int(self.status.get("succeeded") or 0)
            + len(succeeded)
            + len(self._uncounted["succeeded"])
        )
        self.failed = (
            int(self.status.get("failed") or 0) + len(counted) + len(self._uncounted["failed"])
        )
        self.backoff = backoff.after(succeeded, failed)
        self.succeeded_indexes: set[int] = set()
        self.failed_indexes: set[int] = set()
        self._earlier_indexes: set[int] = set()
        self._delayed: dict[int, Obj] = {}
        if self.indexed:
            self._tally_indexes()

    def _tally_indexes(self) -> None:
        completions = self._completions or 0
        self._earlier_indexes = indexes.parse(self.status.get("completedIndexes", ""), completions)
        fresh = {
            index
            for pod in self.pods
            if has_finalizer(pod) and phase_of(pod) == "Succeeded" and self._has_valid_index(pod)
            and (index := indexes.index_of(pod)) is not None
        }  # fmt: skip
        self.succeeded_indexes = self._earlier_indexes | fresh
        self.succeeded = len(self.succeeded_indexes)
        if not self.per_index:
            return
        self.failed_indexes = indexes.parse(self.status.get("failedIndexes") or "", completions)
        for pod in self.pods:
            index = indexes.index_of(pod)
            if index is not None and self._has_valid_index(pod) and has_finalizer(pod):
                if failures.is_index_failed(self.job, pod):
                    self.failed_indexes.add(index)
        self._delayed = self._find_delayed()

    def _find_delayed(self) -> dict[int, Obj]:
        """The last failed pod of each index that will be tried again: it remembers how often."""
        active = {indexes.index_of(pod) for pod in self.active_pods}
        found: dict[int, Obj] = {}
        for pod in self.pods:
            index = indexes.index_of(pod)
            if index is None or not has_finalizer(pod) or uid_of(pod) in self._losing:
                continue
            if not self._has_valid_index(pod) or not failures.is_failed(pod, self.job):
                continue
            if index in active or index in self.succeeded_indexes | self.failed_indexes:
                continue
            other = found.get(index)
            if other is None or _failure_order(other) <= _failure_order(pod):
                found[index] = pod
        return found

    # Deciding.

    def plan(self, *, satisfied: bool) -> Plan:
        """``satisfied``: all that was created and deleted before has been seen."""
        if not self.status.get("startTime") and not is_suspended(self.job):
            self.status["startTime"] = self.timestamp
        plan = Plan()
        self._judge(plan)
        if self.finished is not None:
            plan.ends = plan.keep_finalizers = True
            plan.delete = list(self.active_pods)
        elif satisfied and not is_deleted(self.job):
            plan.managed = True
            self._manage(plan)
        return plan

    def _judge(self, plan: Plan) -> None:
        """Sets ``finished`` when the job has succeeded or failed for good."""
        success = condition_of(self.job, "SuccessCriteriaMet")
        target = condition_of(self.job, "FailureTarget")
        if success is not None and success.get("status") == "True":
            self.finished = success
        elif target is not None and target.get("status") == "True":
            self._finish("Failed", target["reason"], target["message"])
        else:
            self._judge_failures(plan)
        if self.finished is None and self.per_index:
            self._judge_indexes()
        if self.finished is None and self.indexed:
            message = failures.match_success_policy(self.job, self.succeeded_indexes)
            if message:
                self._finish("SuccessCriteriaMet", "SuccessPolicy", message)

    def _judge_failures(self, plan: Plan) -> None:
        for pod in self.pods if self._policy else ():
            if failures.is_failed(pod, self.job):
                match = match_policy(self._policy, pod)
                if match.message:
                    self._finish("FailureTarget", "PodFailurePolicy", match.message)
                    return
        limit = self.spec.get("backoffLimit")
        limit = (MAX_INT32 if self.per_index else 6) if limit is None else limit
        deadline = self.spec.get("activeDeadlineSeconds")
        if self.failed > limit or failures.past_backoff_limit_on_failure(self.job, self.pods):
            message = "Job has reached the specified backoff limit"
            self._finish("FailureTarget", "BackoffLimitExceeded", message)
        elif deadline is not None and not is_suspended(self.job):
            left = seconds_of(self.status.get("startTime")) + deadline - self.now
            if left > 0:
                plan.requeue_after = left
                return
            message = "Job was active longer than specified deadline"
            self._finish("FailureTarget", "DeadlineExceeded", message)

    def _judge_indexes(self) -> None:
        failed, allowed = len(self.failed_indexes), self.spec.get("maxFailedIndexes")
        if allowed is not None and failed > allowed:
            self._finish(
                "FailureTarget",
                "MaxFailedIndexesExceeded",
                "Job has exceeded the specified maximal number of failed indexes",
            )
        elif failed and failed + len(self.succeeded_indexes) >= (self._completions or 0):
            self._finish("FailureTarget", "FailedIndexes", "Job has failed indexes")

    def _finish(self, type_: str, reason: str, message: str) -> None:
        self.finished = job_condition(type_, "True", reason, message, self.timestamp)

    def _manage(self, plan: Plan) -> None:
        if is_suspended(self.job):
            plan.delete = self._for_removal(self.active)
            return
        wanted = self._wanted_active()
        plan.delete = self._for_removal(max(0, self.active - wanted))[:MAX_PODS_PER_SYNC]
        if plan.delete:
            return
        holding = self.terminating if failures.only_replaces_failed(self.job) else 0
        missing = min(wanted - holding - self.active, MAX_PODS_PER_SYNC)
        if missing <= 0:
            return
        wait = 0.0 if self.per_index else self.backoff.remaining(self.now)
        if wait > 0:
            plan.requeue_after = min(wait, plan.requeue_after or wait)
            return
        if self.indexed:
            self._create_indexed(plan, missing)
        else:
            template = self._template(self.spec["template"])
            plan.create = [self._pod(template) for _ in range(missing)]

    def _wanted_active(self) -> int:
        parallelism = self.spec.get("parallelism")
        parallelism = 1 if parallelism is None else parallelism
        if self._completions is None:
            return self.active if self.succeeded > 0 else parallelism
        return int(max(0, min(self._completions - self.succeeded, parallelism)))

    def _create_indexed(self, plan: Plan, missing: int) -> None:
        taken = self.succeeded_indexes | self.failed_indexes
        taken |= {i for p in self.active_pods if (i := indexes.index_of(p)) is not None}
        if failures.only_replaces_failed(self.job):
            going = filter(is_terminating, self.pods)
            taken |= {i for p in going if (i := indexes.index_of(p)) is not None}
        soonest: float | None = None
        for index in indexes.first_pending(self._completions or 0, taken, missing):
            wait = self._index_backoff(index)
            if wait > 0:
                soonest = wait if soonest is None else min(soonest, wait)
                continue
            plan.create.append(self._indexed_pod(index))
        if not plan.create and soonest is not None:
            plan.requeue_after = min(soonest, plan.requeue_after or soonest)

    def _index_backoff(self, index: int) -> float:
        previous = self._delayed.get(index)
        if previous is None:
            return 0.0
        count = indexes.failure_count(previous, ignored=True) + 1
        return failures.remaining_backoff(count, failures.finished_at(previous), self.now)

    def _indexed_pod(self, index: int) -> Obj:
        name = name_of(self.job)
        template = indexes.indexed_template(self._template(self.spec["template"]), name, index)
        if self.per_index:
            template["metadata"]["annotations"] |= self._failure_annotations(index)
        pod = self._pod(template)
        pod["metadata"]["generateName"] = indexes.generate_name(name, index)
        return pod

    def _failure_annotations(self, index: int) -> dict[str, str]:
        previous = self._delayed.get(index)
        counted = ignored = 0
        if previous is not None:
            counted = indexes.failure_count(previous)
            ignored = indexes.failure_count(previous, ignored=True) - counted
            if match_policy(self._policy, previous).counts:
                counted += 1
            else:
                ignored += 1
        annotations = {indexes.INDEX_FAILURE_COUNT: str(counted)}
        if ignored:
            annotations[indexes.INDEX_IGNORED_FAILURE_COUNT] = str(ignored)
        return annotations

    def _template(self, template: Obj) -> Obj:
        metadata = template.get("metadata") or {}
        finalizers = list(metadata.get("finalizers") or ())
        if TRACKING_FINALIZER not in finalizers:
            finalizers.append(TRACKING_FINALIZER)
        return {**template, "metadata": {**metadata, "finalizers": finalizers}}

    def _pod(self, template: Obj) -> Obj:
        return pod_from_template(template, self.job, controller_reference(self.job))

    def _for_removal(self, at_least: int) -> list[Obj]:
        completions = (self._completions or 0) if self.indexed else None
        return indexes.for_removal(self.active_pods, at_least, completions)

    # Concluding, after the pods were written.

    def count(self, *, created: int, deleted: Sequence[Obj]) -> None:
        self.active += created - len(deleted)
        self.terminating += len(deleted)
        self.ready -= sum(map(is_ready, deleted))

    def conclude(self, plan: Plan, *, satisfied: bool) -> bool:
        """True when a condition changed (the status must be written)."""
        if plan.ends:
            if self.active or not satisfied:
                self.finished = None  # not before all active pods were told to go
            return False
        if self._completions is None:
            complete = self.succeeded > 0 and self.active == 0
        else:
            complete = self.succeeded >= self._completions and self.active == 0
        if complete:
            message = "Reached expected number of succeeded pods"
            self._finish("SuccessCriteriaMet", "CompletionsReached", message)
            return False
        return plan.managed and self._note_suspension()

    def _note_suspension(self) -> bool:
        if is_suspended(self.job):
            changed = self._ensure("Suspended", "True", "JobSuspended", "Job suspended")
            if changed:
                self.status.pop("startTime", None)
                self.events.append(("Normal", "Suspended", "Job suspended"))
            return changed
        changed = self._ensure("Suspended", "False", "JobResumed", "Job resumed")
        if changed:
            self.status["startTime"] = self.timestamp
            self.events.append(("Normal", "Resumed", "Job resumed"))
        return changed

    def _ensure(self, type_: str, status: str, reason: str, message: str) -> bool:
        new = job_condition(type_, status, reason, message, self.timestamp)
        conditions = with_condition(self.status.get("conditions") or [], new)
        if conditions is None:
            return False
        self.status["conditions"] = conditions
        return True

    # Tracking.

    def track(self, changed: bool) -> tuple[list[Obj], bool]:
        """(pods that may lose their finalizer, whether the status must be written first)."""
        flush = self._set_counts() or changed
        held = self._with_finalizer()
        flush = self._move_counted(held) or flush
        ready_to_go: list[Obj] = []
        pods = sorted(self.pods, key=lambda p: indexes.index_of(p) or 0)
        for pod in pods if self.indexed else self.pods:
            if uid_of(pod) not in held or not self._may_lose_finalizer(pod):
                continue
            ready_to_go.append(pod)
            flush = self._note_uncounted(pod) or flush
            if sum(map(len, self._uncounted.values())) >= MAX_UNCOUNTED:
                break
        flush = self._write_indexes() or flush
        flush = self._write_target() or flush
        self._write_uncounted()
        return ready_to_go, flush

    def _set_counts(self) -> bool:
        new = {"ready": self.ready, "terminating": self.terminating}
        changed = any(self.status.get(k) != v for k, v in new.items())
        changed = changed or int(self.status.get("active") or 0) != self.active
        self.status |= new
        self.status.pop("active", None)
        if self.active:
            self.status["active"] = self.active
        return changed

    def _with_finalizer(self) -> set[str]:
        return {uid_of(p) for p in self.pods if has_finalizer(p) and uid_of(p) not in self._losing}

    def _move_counted(self, held: set[str]) -> bool:
        """Uncounted pods whose finalizer is gone are counted now."""
        changed = False
        for kind, uids in self._uncounted.items():
            kept = [uid for uid in uids if uid in held]
            if len(kept) != len(uids):
                self.status[kind] = int(self.status.get(kind) or 0) + len(uids) - len(kept)
                self._uncounted[kind] = kept
                changed = True
        return changed

    def _may_lose_finalizer(self, pod: Obj) -> bool:
        if is_deleted(self.job) or self.finished is not None or phase_of(pod) == "Succeeded":
            return True
        if not failures.is_failed(pod, self.job):
            return False
        index = indexes.index_of(pod)
        delayed = self._delayed.get(index) if self.per_index and index is not None else None
        return delayed is None or uid_of(delayed) != uid_of(pod)

    def _note_uncounted(self, pod: Obj) -> bool:
        uid = uid_of(pod)
        if phase_of(pod) == "Succeeded" and uid not in self._uncounted["failed"]:
            if self.indexed:
                return False  # counted by index
            if uid in self._uncounted["succeeded"]:
                return False
            self._uncounted["succeeded"].append(uid)
            return True
        fails = self.finished is not None and self.finished["type"] != "SuccessCriteriaMet"
        if not failures.is_failed(pod, self.job) and not fails:
            return False
        if uid in self._uncounted["failed"] or not self._has_valid_index(pod):
            return False
        if not match_policy(self._policy, pod).counts:
            return False
        self._uncounted["failed"].append(uid)
        return True

    def _write_indexes(self) -> bool:
        if not self.indexed:
            return False
        text = indexes.format_indexes(self.succeeded_indexes)
        changed: bool = text != self.status.get("completedIndexes", "")
        for name, value in (("completedIndexes", text), ("succeeded", len(self.succeeded_indexes))):
            self.status.pop(name, None)
            if value:
                self.status[name] = value
        if self.per_index:
            failed = indexes.format_indexes(self.failed_indexes)
            changed = changed or failed != self.status.get("failedIndexes")
            self.status["failedIndexes"] = failed
        return changed

    def _write_target(self) -> bool:
        """Announces the end (FailureTarget, SuccessCriteriaMet) before it is reached."""
        end = self.finished
        if end is None or end["type"] == "Failed":
            return False
        changed = condition_of(self.job, end["type"]) is None
        if changed:
            self.status["conditions"] = [*(self.status.get("conditions") or ()), end]
        type_ = "Failed" if end["type"] == "FailureTarget" else "Complete"
        self._finish(type_, end["reason"], end["message"])
        return changed

    def _write_uncounted(self) -> None:
        self.status["uncountedTerminatedPods"] = {k: v for k, v in self._uncounted.items() if v}

    def forget(self, removed: Iterable[str]) -> bool:
        """The finalizers of these pods are gone; True when that changes counts."""
        self._losing |= set(removed)
        changed = self._move_counted(self._with_finalizer())
        self._write_uncounted()
        return changed

    def enact_finished(self) -> bool:
        """Marks the job Complete or Failed once every pod is counted and none terminates."""
        if self.finished is None or any(self._uncounted.values()) or self.terminating > 0:
            return False
        end = self.finished
        self._ensure(end["type"], end["status"], end["reason"], end["message"])
        if end["type"] == "Complete":
            self.status["completionTime"] = end["lastTransitionTime"]
            if (
                self._completions is not None
                and self.status.get("succeeded", 0) > self._completions
            ):
                message = "Too many succeeded pods running after completion count reached"
                self.events.append(("Warning", "TooManySucceededPods", message))
            self.events.append(("Normal", "Completed", "Job completed"))
        else:
            self.events.append(("Warning", end["reason"], end["message"]))
        return True


def _failure_order(pod: Obj) -> tuple[int, float]:
    return indexes.failure_count(pod, ignored=True), failures.finished_at(pod)
