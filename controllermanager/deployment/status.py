"""Counts and conditions of a Deployment (deployment/progress.go, calculateStatus). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.apimachinery.object import Obj, condition_of, get_nested, meta, name_of
from pilothouse.controllermanager.controller import seconds_of
from pilothouse.controllermanager.deployment.scaling import (
    MAX_INT32,
    max_unavailable,
    status_count,
    total_replicas,
)
from pilothouse.controllermanager.replicaset import replicas_of

UPDATED = "ReplicaSetUpdated"
CREATE_ERROR = "ReplicaSetCreateError"
NEW_CREATED = "NewReplicaSetCreated"
FOUND_NEW = "FoundNewReplicaSet"
NEW_AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"


def has_progress_deadline(deployment: Obj) -> bool:
    deadline = get_nested(deployment, "spec", "progressDeadlineSeconds")
    return deadline is not None and deadline != MAX_INT32


def condition(type_: str, status: str, reason: str, message: str, timestamp: str) -> Obj:
    return {
        "type": type_,
        "status": status,
        "lastUpdateTime": timestamp,
        "lastTransitionTime": timestamp,
        "reason": reason,
        "message": message,
    }


def set_condition(status: Obj, new: Obj) -> None:
    """Replaces the condition of that type unless status and reason are what they were."""
    old = condition_of({"status": status}, new["type"])
    if old is not None and old.get("status") == new["status"]:
        if old.get("reason") == new["reason"]:
            return
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime")}
    remove_condition(status, new["type"])
    status["conditions"] = [*status.get("conditions", ()), new]


def remove_condition(status: Obj, type_: str) -> None:
    if "conditions" in status:
        status["conditions"] = [c for c in status["conditions"] if c.get("type") != type_]
        if not status["conditions"]:
            del status["conditions"]


def counted(deployment: Obj, everything: Sequence[Obj], new: Obj | None, timestamp: str) -> Obj:
    """The new status up to the Available condition; the other conditions as they are."""
    available = status_count(everything, "availableReplicas")
    counts = {
        "observedGeneration": meta(deployment).get("generation") or 0,
        "replicas": status_count(everything, "replicas"),
        "updatedReplicas": status_count((new,) if new else (), "replicas"),
        "readyReplicas": status_count(everything, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(everything) - available),
    }
    status: Obj = {field: count for field, count in counts.items() if count}
    terminating = _terminating(everything)
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    old = deployment.get("status") or {}
    if old.get("collisionCount") is not None:
        status["collisionCount"] = old["collisionCount"]
    if old.get("conditions"):
        status["conditions"] = list(old["conditions"])
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        message = "Deployment has minimum availability."
        new_condition = condition(
            "Available", "True", "MinimumReplicasAvailable", message, timestamp
        )
    else:
        message = "Deployment does not have minimum availability."
        new_condition = condition(
            "Available", "False", "MinimumReplicasUnavailable", message, timestamp
        )
    set_condition(status, new_condition)
    return status


def _terminating(replica_sets: Sequence[Obj]) -> int | None:
    total = 0
    for replica_set in replica_sets:
        status = replica_set.get("status") or {}
        if status.get("terminatingReplicas") is not None:
            total += status["terminatingReplicas"]
        elif status.get("observedGeneration"):
            return None
    return total


def is_complete(deployment: Obj, status: Obj) -> bool:
    desired = replicas_of(deployment)
    return bool(
        status.get("updatedReplicas", 0) == desired
        and status.get("replicas", 0) == desired
        and status.get("availableReplicas", 0) == desired
        and status.get("observedGeneration", 0) >= (meta(deployment).get("generation") or 0)
    )


def is_progressing(deployment: Obj, new: Obj) -> bool:
    old = deployment.get("status") or {}

    def outdated(status: Obj) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    return bool(
        new.get("updatedReplicas", 0) > old.get("updatedReplicas", 0)
        or outdated(new) < outdated(old)
        or new.get("readyReplicas", 0) > old.get("readyReplicas", 0)
        or new.get("availableReplicas", 0) > old.get("availableReplicas", 0)
    )


def is_timed_out(deployment: Obj, status: Obj, now: float) -> bool:
    progressing = condition_of({"status": status}, "Progressing")
    if not has_progress_deadline(deployment) or progressing is None:
        return False
    if progressing.get("reason") in (NEW_AVAILABLE, TIMED_OUT):
        return progressing["reason"] == TIMED_OUT  # type: ignore[no-any-return]
    since = seconds_of(progressing.get("lastUpdateTime"))
    return bool(since + deployment["spec"]["progressDeadlineSeconds"] < now)


def rollout_status(
    deployment: Obj, everything: Sequence[Obj], new: Obj | None, now: float, timestamp: str
) -> Obj:
    """The status of a rollout: counts, and what can be said of its progress."""
    status = counted(deployment, everything, new, timestamp)
    if not has_progress_deadline(deployment):
        remove_condition(status, "Progressing")
    current = condition_of(deployment, "Progressing")
    finished = (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current.get("reason") == NEW_AVAILABLE
    )
    if has_progress_deadline(deployment) and not finished:
        _report_progress(deployment, status, current, new, now, timestamp)
    failures = _replica_failures(everything, new)
    if failures:
        set_condition(status, failures[0])
    else:
        remove_condition(status, "ReplicaFailure")
    return status


def _report_progress(
    deployment: Obj, status: Obj, current: Obj | None, new: Obj | None, now: float, timestamp: str
) -> None:
    subject = (
        f'Deployment "{name_of(deployment)}"' if new is None else f'ReplicaSet "{name_of(new)}"'
    )
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        set_condition(status, condition("Progressing", "True", NEW_AVAILABLE, message, timestamp))
    elif is_progressing(deployment, status):
        progressing = condition(
            "Progressing", "True", UPDATED, f"{subject} is progressing.", timestamp
        )
        if current is not None:
            if current.get("status") == "True":
                progressing["lastTransitionTime"] = current.get("lastTransitionTime")
            remove_condition(status, "Progressing")
        set_condition(status, progressing)
    elif is_timed_out(deployment, status, now):
        message = f"{subject} has timed out progressing."
        set_condition(status, condition("Progressing", "False", TIMED_OUT, message, timestamp))


def _replica_failures(everything: Sequence[Obj], new: Obj | None) -> list[Obj]:
    for replica_sets in ((new,) if new is not None else (), everything):
        found = [
            {
                "type": c["type"],
                "status": c.get("status"),
                "lastUpdateTime": c.get("lastTransitionTime"),
                "lastTransitionTime": c.get("lastTransitionTime"),
                "reason": c.get("reason", ""),
                "message": c.get("message", ""),
            }
            for rs in replica_sets
            for c in get_nested(rs, "status", "conditions", default=())
            if c.get("type") == "ReplicaFailure"
        ]
        if found:
            return found
    return []


def next_progress_check(deployment: Obj, status: Obj, now: float) -> float | None:
    """Seconds until the deadline has to be looked at; 0 for at once, None for never."""
    current = condition_of(deployment, "Progressing")
    if not has_progress_deadline(deployment) or current is None:
        return None
    if is_complete(deployment, status) or current.get("reason") == TIMED_OUT:
        return None
    deadline = deployment["spec"]["progressDeadlineSeconds"]
    after = seconds_of(current.get("lastUpdateTime")) + deadline - now
    return 0.0 if after < 1 else after + 1
