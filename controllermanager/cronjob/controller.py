"""Starts a Job at each scheduled moment of a CronJob and keeps the last few."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.controllermanager.controller import Controller, SyncError, seconds_of
from pilothouse.controllermanager.controller_ref import controller_reference
from pilothouse.controllermanager.cronjob.schedule import (
    MANY_MISSED,
    Schedule,
    missed,
    parse,
    seconds_to_next,
)
from pilothouse.controllermanager.stable_metrics import creation_skew
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.record import reference_to
from pilothouse.kubeclient.resources import CRON_JOBS, JOBS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

SCHEDULED_TIMESTAMP = "batch.kubernetes.io/cronjob-scheduled-timestamp"
TIME_ZONE_WARNING = (
    "CRON_TZ or TZ used in schedule {!r} is not officially supported, see "
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)
_BACKGROUND = DeleteOptions(propagation_policy="Background")


def finished_type(job: Obj) -> str:
    """Complete, Failed, or "" while it runs."""
    for condition in get_nested(job, "status", "conditions", default=()):
        if condition["type"] in ("Complete", "Failed") and condition.get("status") == "True":
            return condition["type"]  # type: ignore[no-any-return]
    return ""


def job_for(cron_job: Obj, scheduled: datetime) -> Obj:
    """The Job of one scheduled moment; its name makes sure that there is only one."""
    template = cron_job["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    zone = get_nested(cron_job, "spec", "timeZone", default="")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{name_of(cron_job)}-{int(scheduled.timestamp()) // 60}",
            "namespace": namespace_of(cron_job),
            "labels": dict(metadata.get("labels") or {}),
            "annotations": {
                **(metadata.get("annotations") or {}),
                SCHEDULED_TIMESTAMP: _in_zone(scheduled, zone),
            },
            "ownerReferences": [controller_reference(cron_job)],
        },
        "spec": copy_object(template.get("spec") or {}),
    }


def _in_zone(moment: datetime, zone: str) -> str:
    if not zone or zone == "UTC":
        return format_time(moment)
    from zoneinfo import ZoneInfo

    return moment.astimezone(ZoneInfo(zone)).isoformat(timespec="seconds")


class CronJobController(Controller):
    name = "cronjob-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._skew = creation_skew()
        self.own_metrics = (self._skew,)
        self._cron_jobs = self.watch_keys(CRON_JOBS)
        self._jobs = self.watch(
            JOBS, self._job_changed, lambda _, new: self._job_changed(new), self._job_changed
        )

    def _job_changed(self, job: Obj) -> None:
        reference = controller_of(job)
        if reference is None or reference.get("kind") != "CronJob":
            return
        owner = self._cron_jobs.get(f"{namespace_of(job)}/{reference.get('name')}")
        if owner is not None and uid_of(owner) == reference.get("uid"):
            self.enqueue(owner)

    async def sync(self, key: str) -> None:
        cached = self._cron_jobs.get(key)
        if cached is None:
            return
        cron_job = copy_object(cached)
        status = cron_job.setdefault("status", {})
        jobs = [
            job
            for job in self._jobs.list(namespace_of(cron_job))
            if (controller_of(job) or {}).get("uid") == uid_of(cron_job)
        ]
        await self._clean_up(cron_job, jobs)
        failure: Exception | None = None
        wait = None
        try:
            await self._follow_jobs(cron_job, jobs)
            if not meta(cron_job).get("deletionTimestamp"):
                wait = await self._start_due(cron_job)
        except (StatusError, SyncError) as error:
            failure = error
        if not status.get("active"):
            status.pop("active", None)
        if status != (cached.get("status") or {}):
            await self.client.update(CRON_JOBS, cron_job, subresource="status")
        if failure is not None:
            raise failure
        if wait is not None:
            self.queue.add_after(key, max(wait, 0.0))

    # What became of the jobs.

    async def _follow_jobs(self, cron_job: Obj, jobs: list[Obj]) -> None:
        status = cron_job["status"]
        for job in jobs:
            active = self._is_active(cron_job, uid_of(job))
            ended = finished_type(job)
            if not ended and not active:
                await self._unexpected(cron_job, job)
            elif ended and active:
                self._drop(cron_job, uid_of(job))
                message = f"Saw completed job: {name_of(job)}, condition: {ended}"
                self._event(cron_job, "Normal", "SawCompletedJob", message)
            completed = get_nested(job, "status", "completionTime")
            if ended == "Complete" and completed:
                if seconds_of(completed) > seconds_of(status.get("lastSuccessfulTime")):
                    status["lastSuccessfulTime"] = completed
        known = {uid_of(job) for job in jobs}
        for reference in list(status.get("active") or ()):
            if reference.get("uid") not in known and await self._is_missing(reference):
                self._event(
                    cron_job, "Normal", "MissingJob",
                    f"Active job went missing: {reference.get('name')}",
                )  # fmt: skip
                self._drop(cron_job, reference.get("uid"))

    async def _unexpected(self, cron_job: Obj, job: Obj) -> None:
        """Unknown to our copy; perhaps the server's newer status knows it."""
        fresh = await self.client.get(CRON_JOBS, name_of(cron_job), namespace_of(cron_job))
        if self._is_active(fresh, uid_of(job)):
            cron_job["status"] = copy_object(fresh["status"])
            cron_job["metadata"]["resourceVersion"] = meta(fresh)["resourceVersion"]
            return
        message = f"Saw a job that the controller did not create or forgot: {name_of(job)}"
        self._event(cron_job, "Warning", "UnexpectedJob", message)

    async def _is_missing(self, reference: Obj) -> bool:
        try:
            await self.client.get(JOBS, reference["name"], reference["namespace"])
        except StatusError as error:
            if is_not_found(error):
                return True
            raise
        return False

    def _is_active(self, cron_job: Obj, uid: str) -> bool:
        active = get_nested(cron_job, "status", "active", default=())
        return any(reference.get("uid") == uid for reference in active)

    def _drop(self, cron_job: Obj, uid: str | None) -> None:
        status = cron_job["status"]
        status["active"] = [r for r in status.get("active") or () if r.get("uid") != uid]

    def _event(self, cron_job: Obj, type_: str, reason: str, message: str) -> None:
        self.recorder.event(cron_job, type_, reason, message)

    # Starting.

    def _schedule(self, cron_job: Obj) -> Schedule | None:
        text = cron_job["spec"]["schedule"]
        zone = cron_job["spec"].get("timeZone") or ""
        if "TZ" in text:
            message = TIME_ZONE_WARNING.format(text).replace("'", '"')
            self._event(cron_job, "Warning", "UnsupportedSchedule", message)
        try:
            return parse(text, zone)
        except KeyError:
            message = f'invalid timeZone: "{zone}": unknown time zone {zone}'
            self._event(cron_job, "Warning", "UnknownTimeZone", message)
        except ValueError as error:
            message = f'unparseable schedule: "{text}" : {error}'
            self._event(cron_job, "Warning", "UnparseableSchedule", message)
        return None

    async def _start_due(self, cron_job: Obj) -> float | None:
        """Starts what is due; seconds until the next moment, None for never."""
        if cron_job["spec"].get("suspend"):
            return None
        schedule = self._schedule(cron_job)
        if schedule is None:
            return None
        now = self.clock.now()
        try:
            behind = missed(cron_job, schedule, now, deadline=True)
        except ValueError as error:
            message = f"invalid schedule: {cron_job['spec']['schedule']} : {error}"
            self._event(cron_job, "Warning", "InvalidSchedule", message)
            return None
        scheduled = behind.most_recent
        if scheduled is not None and self._may_start(cron_job, scheduled, behind.count, now):
            await self._start(cron_job, scheduled)
        return seconds_to_next(cron_job, schedule, now)

    def _may_start(self, cron_job: Obj, scheduled: datetime, count: int, now: datetime) -> bool:
        if count > MANY_MISSED:
            message = (
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or "
                "check clock skew"
            )
            self._event(cron_job, "Warning", "TooManyMissedTimes", message)
        limit = cron_job["spec"].get("startingDeadlineSeconds")
        if limit is not None and scheduled.timestamp() + limit < now.timestamp():
            moment = scheduled.strftime("%a, %d %b %Y %H:%M:%S UTC")
            message = f"Missed scheduled time to start a job: {moment}"
            self._event(cron_job, "Warning", "MissSchedule", message)
            return False
        status = cron_job["status"]
        active = status.get("active") or ()
        name = job_for(cron_job, scheduled)["metadata"]["name"]
        if any(reference.get("name") == name for reference in active):
            return False
        if status.get("lastScheduleTime") == format_time(scheduled):
            return False
        if cron_job["spec"].get("concurrencyPolicy") == "Forbid" and active:
            message = (
                "Not starting job because prior execution is running and concurrency policy is "
                "Forbid"
            )
            self._event(cron_job, "Normal", "JobAlreadyActive", message)
            return False
        return True

    async def _start(self, cron_job: Obj, scheduled: datetime) -> None:
        status = cron_job["status"]
        if cron_job["spec"].get("concurrencyPolicy") == "Replace":
            for reference in list(status.get("active") or ()):
                if not await self._delete(cron_job, reference):
                    where = f"{reference['namespace']}/{reference['name']}"
                    raise SyncError(f"could not replace job {where}")
        job = job_for(cron_job, scheduled)
        try:
            created = await self.client.create(JOBS, job, namespace_of(cron_job))
        except StatusError as error:
            if not is_already_exists(error):
                self._event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error}")
                raise
            created = await self.client.get(JOBS, name_of(job), namespace_of(cron_job))
            if (controller_of(created) or {}).get("uid") != uid_of(cron_job):
                return
        else:
            self._skew.observe(max(0.0, self.now() - scheduled.timestamp()))
            message = f"Created job {name_of(created)}"
            self._event(cron_job, "Normal", "SuccessfulCreate", message)
        status["active"] = [
            *(status.get("active") or ()),
            reference_to({"apiVersion": "batch/v1", "kind": "Job", **created}),
        ]
        status["lastScheduleTime"] = format_time(scheduled)

    async def _delete(self, cron_job: Obj, job: Obj) -> bool:
        """``job`` is a Job or a reference to one."""
        reference = job if "metadata" not in job else reference_to(job)
        try:
            await self.client.delete(JOBS, reference["name"], reference["namespace"], _BACKGROUND)
        except StatusError as error:
            self._event(cron_job, "Warning", "FailedDelete", f"Deleted job: {error}")
            return is_not_found(error)
        self._drop(cron_job, reference.get("uid"))
        self._event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {reference['name']}")
        return True

    async def _clean_up(self, cron_job: Obj, jobs: list[Obj]) -> None:
        """Deletes finished jobs beyond the history limits, oldest first."""
        for ended, field in (
            ("Complete", "successfulJobsHistoryLimit"),
            ("Failed", "failedJobsHistoryLimit"),
        ):
            limit = cron_job["spec"].get(field)
            if limit is None:
                continue
            found = [job for job in jobs if finished_type(job) == ended]
            found.sort(key=_start_order)
            for job in found[: max(0, len(found) - limit)]:
                if not meta(job).get("deletionTimestamp"):
                    await self._delete(cron_job, job)


def _start_order(job: Obj) -> tuple[bool, str, str]:
    started = get_nested(job, "status", "startTime", default="")
    return not started, started, object_key(job)
