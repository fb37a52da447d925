"""CronJobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilothouse.apis.batch.cron import schedule_error
from pilothouse.apis.batch.validation_job import validate_job_spec
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_ZONE_PART = re.compile(r"[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}")


def validate_cron_job(cron_job: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec, before = cron_job.get("spec") or {}, (old or {}).get("spec") or {}
    _schedule(errors, spec, before)
    check.nonnegative(errors, spec, "startingDeadlineSeconds", "spec")
    zone = spec.get("timeZone")
    if zone is not None and (old is None or zone != before.get("timeZone")):
        _time_zone(errors, zone)
    policies = ("Allow", "Forbid", "Replace")
    if spec.get("concurrencyPolicy") not in policies:
        check.one_of(errors, spec.get("concurrencyPolicy"), policies, "spec.concurrencyPolicy")
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    old_job = (before.get("jobTemplate") or {}).get("spec") or {}
    old_template = None if old is None else old_job.get("template") or {}
    path = "spec.jobTemplate.spec"
    validate_job_spec(errors, job_spec, path, old_template)
    if job_spec.get("selector") is not None:
        message = "`selector` will be auto-generated"
        errors.append(invalid(f"{path}.selector", job_spec["selector"], message))
    if job_spec.get("manualSelector"):
        errors.append(not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        check.nonnegative(errors, spec, field, "spec")
    name = (cron_job.get("metadata") or {}).get("name") or ""
    if old is None and len(name) > 52:
        errors.append(invalid("metadata.name", name, "must be no more than 52 characters"))
    return errors


def _schedule(errors: ErrorList, spec: Obj, before: Obj) -> None:
    schedule = spec.get("schedule") or ""
    if not schedule:
        errors.append(required("spec.schedule"))
        return
    message = schedule_error(schedule)
    if message:
        errors.append(invalid("spec.schedule", schedule, message))
    if "TZ" not in schedule:
        return
    if "TZ" not in (before.get("schedule") or ""):
        message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, message))
    elif spec.get("timeZone") is not None:
        message = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        errors.append(invalid("spec.schedule", schedule, message))


def _time_zone(errors: ErrorList, zone: str) -> None:
    path = "spec.timeZone"
    if not zone:
        errors.append(invalid(path, zone, "timeZone must be nil or non-empty string"))
        return
    for part in zone.split("/"):
        if part in (".", "..") or not _ZONE_PART.fullmatch(part):
            errors.append(invalid(path, zone, f"unknown time zone {zone}"))
            return
    if zone.lower() == "local":
        message = (
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        )
        errors.append(invalid(path, zone, message))
        return
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        errors.append(invalid(path, zone, f"unknown time zone {zone}"))
