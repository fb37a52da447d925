"""Deletes finished Jobs when their ``ttlSecondsAfterFinished`` is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, namespace_of, uid_of
from pilothouse.controllermanager.controller import Controller, seconds_of
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import JOBS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment


def expires_at(job: Obj) -> float | None:
    """When the job is to be deleted; None while it must not be."""
    ttl = get_nested(job, "spec", "ttlSecondsAfterFinished")
    if ttl is None or meta(job).get("deletionTimestamp"):
        return None
    for condition in get_nested(job, "status", "conditions", default=()):
        if condition["type"] in ("Complete", "Failed") and condition.get("status") == "True":
            return seconds_of(condition.get("lastTransitionTime")) + float(ttl)
    return None


class TTLAfterFinishedController(Controller):
    name = "ttl-after-finished-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._jobs = self.watch(JOBS, self._changed, lambda _, new: self._changed(new))

    def _changed(self, job: Obj) -> None:
        if expires_at(job) is not None:
            self.enqueue(job)

    async def sync(self, key: str) -> None:
        job = self._jobs.get(key)
        due = expires_at(job) if job is not None else None
        if job is None or due is None:
            return
        left = due - self.now()
        if left > 0:
            self.queue.add_after(key, left)
            return
        options = DeleteOptions(propagation_policy="Foreground", precondition_uid=uid_of(job))
        try:
            # The TTL may have been raised a moment ago.
            fresh = await self.client.get(JOBS, name_of(job), namespace_of(job))
            due = expires_at(fresh)
            if uid_of(fresh) == uid_of(job) and due is not None and due <= self.now():
                await self.client.delete(JOBS, name_of(job), namespace_of(job), options)
        except StatusError as error:
            if not is_not_found(error):
                raise
