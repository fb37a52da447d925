"""Conditions of Jobs and the finalizer that keeps their pods until they are counted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.apimachinery.object import Obj, condition_of, get_nested, meta

TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"


def has_finalizer(pod: Obj) -> bool:
    return TRACKING_FINALIZER in (meta(pod).get("finalizers") or ())


def is_finished(job: Obj) -> bool:
    return any(
        (condition_of(job, type_) or {}).get("status") == "True" for type_ in ("Complete", "Failed")
    )


def is_suspended(job: Obj) -> bool:
    return bool(get_nested(job, "spec", "suspend"))


def job_condition(type_: str, status: str, reason: str, message: str, timestamp: str) -> Obj:
    return {
        "type": type_,
        "status": status,
        "lastProbeTime": timestamp,
        "lastTransitionTime": timestamp,
        "reason": reason,
        "message": message,
    }


def with_condition(conditions: Sequence[Obj], new: Obj) -> list[Obj] | None:
    """The list with ``new`` in the place of its type; None when nothing changes. A condition
    that is false from the start is not added."""
    for number, old in enumerate(conditions):
        if old["type"] == new["type"]:
            if all(old.get(k, "") == new[k] for k in ("status", "reason", "message")):
                return None
            return [*conditions[:number], new, *conditions[number + 1 :]]
    return None if new["status"] == "False" else [*conditions, new]
