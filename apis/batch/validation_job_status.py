"""Status updates of Jobs: conditions, counters and times must fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.fieldpath import BAD_VALUE_OMITTED
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.apis.batch.validation_policies import count_indexes
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import duplicate, invalid, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_TERMINAL = ("Failed", "Complete", "FailureTarget")
_PAIRS = (
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
    (
        "SuccessCriteriaMet",
        "Failed",
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    ),
    (
        "SuccessCriteriaMet",
        "FailureTarget",
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    ),
)


def is_true(job: Obj, condition: str) -> bool:
    return any(
        c.get("type") == condition and c.get("status") == "True"
        for c in (job.get("status") or {}).get("conditions") or ()
    )


def is_finished(job: Obj) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def validate_job_status_update(job: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status, before = job.get("status") or {}, old.get("status") or {}
    spec = job.get("spec") or {}
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        check.nonnegative(errors, status, field, "status")
    _uncounted(errors, status.get("uncountedTerminatedPods") or {})
    _conditions(errors, job, old)
    _times(errors, job, old, status, before, spec)
    _finished(errors, job, old, status)
    _indexes(errors, status, before, spec)
    _counters(errors, status, before, spec)
    return errors


def _omitted(errors: ErrorList, message: str) -> None:
    errors.append(invalid("status.conditions", BAD_VALUE_OMITTED, message))


def _uncounted(errors: ErrorList, pods: Obj) -> None:
    seen: set[str] = set()
    for field in ("succeeded", "failed"):
        for i, uid in enumerate(pods.get(field) or ()):
            at = f"status.uncountedTerminatedPods.{field}[{i}]"
            if not uid:
                errors.append(invalid(at, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(at, uid))
            seen.add(uid)


def _conditions(errors: ErrorList, job: Obj, old: Obj) -> None:
    for first, second, message in _PAIRS:
        if is_true(job, first) and is_true(job, second):
            _omitted(errors, message)
    if is_true(job, "Failed") and not is_true(old, "Failed") and not is_true(job, "FailureTarget"):
        _omitted(
            errors, "cannot set Failed=True condition without the FailureTarget=true condition"
        )
    met, was_met = (is_true(j, "SuccessCriteriaMet") for j in (job, old))
    complete, was_complete = (is_true(j, "Complete") for j in (job, old))
    if complete and not was_complete and not met:
        _omitted(
            errors,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        )
    policy = (job.get("spec") or {}).get("successPolicy")
    if policy is not None and complete and not met:
        message = (
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        )
        _omitted(errors, message)
    for condition in _TERMINAL:
        if is_true(old, condition) and not is_true(job, condition):
            _omitted(errors, f"cannot disable the terminal {condition}=True condition")
    if was_met and not met:
        _omitted(errors, "cannot disable the SuccessCriteriaMet=True condition")
    if was_complete and not was_met and met:
        _omitted(
            errors,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        )


def _times(errors: ErrorList, job: Obj, old: Obj, status: Obj, before: Obj, spec: Obj) -> None:
    start, end = status.get("startTime"), status.get("completionTime")
    old_start, old_end = before.get("startTime"), before.get("completionTime")
    complete = is_true(job, "Complete")
    path = "status.completionTime"
    if complete != is_true(old, "Complete") or end != old_end:
        if end and not complete:
            message = "cannot set completionTime when there is no Complete=True condition"
            errors.append(invalid(path, end, message))
        if complete and not end:
            errors.append(required(path, "completionTime is required for Complete jobs"))
    if start and end and (start != old_start or end != old_end):
        if parse_time(end) < parse_time(start):
            errors.append(invalid(path, end, "must be equal to or after `startTime`"))
    if end and old_end and end != old_end:
        errors.append(invalid(path, end, "field is immutable"))
    resuming = is_true(old, "Suspended") and any(
        c.get("type") == "Suspended" and c.get("status") == "False"
        for c in status.get("conditions") or ()
    )
    if old_start and start != old_start and not resuming and not spec.get("suspend"):
        message = "field is immutable for unsuspended job once set"
        errors.append(invalid("status.startTime", start, message))


def _finished(errors: ErrorList, job: Obj, old: Obj, status: Obj) -> None:
    if not is_finished(job) or is_finished(old):
        return
    spec = job.get("spec") or {}
    if (status.get("active") or 0) > 0:
        message = "active>0 is invalid for finished job"
        errors.append(invalid("status.active", status["active"], message))
    if not status.get("startTime") and not (spec.get("suspend") and spec.get("completions") == 0):
        message = "startTime is required for finished job"
        errors.append(required("status.startTime", message))
    uncounted = status.get("uncountedTerminatedPods") or {}
    if uncounted.get("failed") or uncounted.get("succeeded"):
        message = "must be empty for finished job"
        errors.append(invalid("status.uncountedTerminatedPods", uncounted, message))
    if (status.get("terminating") or 0) > 0:
        message = "terminating>0 is invalid for finished job"
        errors.append(invalid("status.terminating", status["terminating"], message))


def _indexes(errors: ErrorList, status: Obj, before: Obj, spec: Obj) -> None:
    completed, failed = status.get("completedIndexes") or "", status.get("failedIndexes")
    completions = spec.get("completions")
    if completed != (before.get("completedIndexes") or ""):
        if completions is not None:
            _parsable(errors, completed, completions, "completedIndexes")
        if completed and spec.get("completionMode") != "Indexed":
            message = "cannot set non-empty completedIndexes when non-indexed completion mode"
            errors.append(invalid("status.completedIndexes", completed, message))
    if failed is not None and failed != before.get("failedIndexes"):
        if spec.get("backoffLimitPerIndex") is None:
            message = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            errors.append(invalid("status.failedIndexes", failed, message))
        elif completions is not None:
            _parsable(errors, failed, completions, "failedIndexes")


def _parsable(errors: ErrorList, text: str, completions: int, field: str) -> None:
    try:
        count_indexes(text, completions)
    except ValueError as error:
        errors.append(invalid(f"status.{field}", text, f"error parsing {field}: {error}"))


def _counters(errors: ErrorList, status: Obj, before: Obj, spec: Obj) -> None:
    indexed = spec.get("completionMode") == "Indexed"
    elastic = indexed and spec.get("completions") == spec.get("parallelism")
    for field in ("failed", "succeeded"):
        value = status.get(field) or 0
        if value < (before.get(field) or 0) and not (field == "succeeded" and elastic):
            message = f"cannot decrease the {field} counter"
            errors.append(invalid(f"status.{field}", value, message))
    ready = status.get("ready")
    if ready is not None and ready > (status.get("active") or 0):
        if ready != before.get("ready") or status.get("active") != before.get("active"):
            message = "cannot set more ready pods than active"
            errors.append(invalid("status.ready", ready, message))
