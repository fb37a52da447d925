"""When pods of a Job finished and what their failures mean: policies and back-off. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    get_nested,
    meta,
    name_of,
    namespace_of,
)
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.job import indexes
from pilothouse.controllermanager.pods import is_deleted, phase_of

DEFAULT_BACKOFF = 10.0
MAX_BACKOFF = 600.0


@dataclass(frozen=True, slots=True)
class PolicyMatch:
    """What the pod failure policy says of one failed pod."""

    action: str = ""
    """Ignore, FailIndex, Count or FailJob; "" when no rule matched."""
    message: str = ""
    """Why the whole job fails."""

    @property
    def counts(self) -> bool:
        return self.action != "Ignore"


def only_replaces_failed(job: Obj) -> bool:
    """Terminating pods are not failed yet and hold their place."""
    return bool(get_nested(job, "spec", "podReplacementPolicy") == "Failed")


def is_failed(pod: Obj, job: Obj) -> bool:
    if phase_of(pod) == "Failed":
        return True
    if only_replaces_failed(job):
        return False
    return is_deleted(pod) and phase_of(pod) != "Succeeded"


def match_policy(policy: Obj | None, pod: Obj) -> PolicyMatch:
    """The first rule that matches decides."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        where = f"{namespace_of(pod)}/{name_of(pod)}"
        if rule.get("onExitCodes"):
            status = _matching_container(pod, rule["onExitCodes"])
            if status is None:
                continue
            code = status["state"]["terminated"]["exitCode"]
            reason = f"Container {status['name']} for pod {where} failed with exit code {code}"
        else:
            condition = _matching_condition(pod, rule.get("onPodConditions") or ())
            if condition is None:
                continue
            reason = f"Pod {where} has condition {condition['type']}"
        message = f"{reason} matching {action} rule at index {number}"
        return PolicyMatch(action, message if action == "FailJob" else "")
    return PolicyMatch()


def _matching_container(pod: Obj, requirement: Obj) -> Obj | None:
    name, values = requirement.get("containerName"), requirement.get("values") or ()
    for kind in ("containerStatuses", "initContainerStatuses"):
        for status in get_nested(pod, "status", kind, default=()):
            code = get_nested(status, "state", "terminated", "exitCode", default=0)
            if not code or (name and name != status["name"]):
                continue
            if (code in values) == (requirement["operator"] == "In"):
                return status  # type: ignore[no-any-return]
    return None


def _matching_condition(pod: Obj, patterns: Iterable[Obj]) -> Obj | None:
    for condition in get_nested(pod, "status", "conditions", default=()):
        for pattern in patterns:
            wanted = pattern.get("status") or "True"
            if condition["type"] == pattern["type"] and condition.get("status") == wanted:
                return condition  # type: ignore[no-any-return]
    return None


def match_success_policy(job: Obj, succeeded: set[int]) -> str:
    """The message of the first rule that is met, "" when none is."""
    rules = get_nested(job, "spec", "successPolicy", "rules", default=())
    completions = get_nested(job, "spec", "completions", default=0)
    for number, rule in enumerate(rules if succeeded else ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = indexes.parse(rule["succeededIndexes"], completions)
            have = len(wanted & succeeded)
            if wanted and (have == len(wanted) or (count is not None and have >= count)):
                return f"Matched rules at index {number}"
        elif count is not None and len(succeeded) >= count:
            return f"Matched rules at index {number}"
    return ""


def is_index_failed(job: Obj, pod: Obj) -> bool:
    """Whether this failure is its index's last."""
    if not is_failed(pod, job):
        return False
    match = match_policy(get_nested(job, "spec", "podFailurePolicy"), pod)
    if match.action == "FailIndex":
        return True
    limit = get_nested(job, "spec", "backoffLimitPerIndex", default=0)
    return bool(match.counts and indexes.failure_count(pod) >= limit)


def past_backoff_limit_on_failure(job: Obj, pods: Iterable[Obj]) -> bool:
    """With restartPolicy OnFailure it is the restarts that count."""
    if get_nested(job, "spec", "template", "spec", "restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        int(status.get("restartCount") or 0)
        for pod in pods
        if phase_of(pod) in ("Running", "Pending")
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in get_nested(pod, "status", kind, default=())
    )
    limit = get_nested(job, "spec", "backoffLimit", default=6)
    return bool(restarts > 0 if limit == 0 else restarts >= limit)


def finished_at(pod: Obj) -> float:
    """When the pod ended, as well as can be told."""
    finish = _containers_finished_at(pod)
    if finish:
        return finish
    ready = condition_of(pod, "Ready")
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return seconds_of(ready["lastTransitionTime"])
    metadata = meta(pod)
    if metadata.get("deletionTimestamp"):
        grace = float(metadata.get("deletionGracePeriodSeconds") or 0)
        return seconds_of(metadata["deletionTimestamp"]) - grace
    return seconds_of(metadata.get("creationTimestamp"))


def _containers_finished_at(pod: Obj) -> float:
    sidecars = {
        c.get("name")
        for c in get_nested(pod, "spec", "initContainers", default=())
        if c.get("restartPolicy") == "Always"
    }
    statuses = list(get_nested(pod, "status", "containerStatuses", default=()))
    statuses += [
        status
        for status in get_nested(pod, "status", "initContainerStatuses", default=())
        if status.get("name") in sidecars
    ]
    times = [
        seconds_of(get_nested(status, "state", "terminated", "finishedAt")) for status in statuses
    ]
    return max(times) if times and all(times) else 0.0


@dataclass(frozen=True, slots=True)
class BackoffRecord:
    """Failures since the last success, which delay the next pod."""

    failures: int = 0
    last_failure: float = 0.0

    def after(self, succeeded: Sequence[Obj], failed: Sequence[Obj]) -> BackoffRecord:
        """The record with newly finished pods taken in."""
        if not succeeded:
            if not failed:
                return self
            return BackoffRecord(self.failures + len(failed), max(map(finished_at, failed)))
        last_success = max(map(finished_at, succeeded))
        later = [time for time in map(finished_at, failed) if time > last_success]
        return BackoffRecord(len(later), max(later, default=0.0))

    def remaining(self, now: float) -> float:
        return remaining_backoff(self.failures, self.last_failure, now)


def remaining_backoff(failures: int, last_failure: float, now: float) -> float:
    """Seconds to wait: 10 s doubling with each failure, at most 10 minutes."""
    if failures == 0:
        return 0.0
    delay = min(DEFAULT_BACKOFF * 2.0 ** min(failures - 1, 30), MAX_BACKOFF)
    return max(0.0, delay - (now - last_failure))
