"""Rewrites all objects of a resource, so that they are stored in the present storage version.

A StorageVersionMigration names the resource. What was written after the migration began is new
enough; everything older gets a patch that changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    condition_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.controllermanager.controller import (
    Controller,
    SyncError,
    seconds_of,
    with_status,
)
from pilothouse.kubeclient.interfaces import ListOptions
from pilothouse.kubeclient.resources import STORAGE_VERSION_MIGRATIONS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

CHUNK = 500
RETRIABLE = (429, 500, 503, 504)
UNKNOWN_SECONDS = 60.0
"""So long a resource that is not served may still appear."""


def is_finished(migration: Obj) -> bool:
    return any(
        (condition_of(migration, type_) or {}).get("status") == "True"
        for type_ in ("Succeeded", "Failed")
    )


def running_message(left: int, total: int, error: BaseException | None = None) -> str:
    message = "The migration is running"
    if total and left:
        message += f", {left}/{total} objects not yet migrated"
    elif total:
        message += f", {total} objects verified migrated"
    return message if error is None else f"{message}; transient error: {error}"


def with_condition(migration: Obj, condition: Obj) -> Obj:
    """A copy with the condition set; its transition time stays while its status does."""
    new: Obj = copy_object(migration)
    status = new.setdefault("status", {})
    old = condition_of(migration, condition["type"])
    if old is not None and old.get("status") == condition["status"]:
        condition = {**condition, "lastTransitionTime": old["lastTransitionTime"]}
    others = [c for c in status.get("conditions") or () if c["type"] != condition["type"]]
    status["conditions"] = [*others, condition]
    return new


class StorageVersionMigrator(Controller):
    name = "storage-version-migrator-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._migrations = self.watch(
            STORAGE_VERSION_MIGRATIONS, self.enqueue, lambda _, new: self.enqueue(new)
        )

    async def sync(self, key: str) -> None:
        migration = self._migrations.get(key)
        if migration is None or is_finished(migration):
            return
        found = await self._resource(migration["spec"]["resource"])
        if found is None:
            age = self.now() - seconds_of(meta(migration).get("creationTimestamp"))
            if age < UNKNOWN_SECONDS:
                raise SyncError("resource does not exist in rest mapper")
            await self._fail(migration, "unable to obtain GVR from discovery")
            return
        resource, kind = found
        version = get_nested(migration, "status", "resourceVersion")
        if not version:
            listed = await self.client.list(resource, options=ListOptions(limit=1))
            status = {**(migration.get("status") or {}), "resourceVersion": listed.resource_version}
            await self._write(with_status(migration, status))
            return
        await self._migrate(migration, resource, kind, int(version))

    async def _resource(self, wanted: Obj) -> tuple[GroupVersionResource, str] | None:
        """The preferred version of the group's resource, with its kind."""
        group, plural = wanted.get("group") or "", wanted.get("resource") or ""
        try:
            if group:
                described = await self.client.request("GET", f"/apis/{group}")
                versions = [described["preferredVersion"], *described["versions"]]
                names = list(dict.fromkeys(v["version"] for v in versions))
            else:
                names = ["v1"]
            for version in names:
                path = f"/apis/{group}/{version}" if group else f"/api/{version}"
                listed = await self.client.request("GET", path)
                for entry in listed.get("resources") or ():
                    if entry["name"] == plural:
                        return GroupVersionResource(group, version, plural), entry["kind"]
        except StatusError as error:
            if not is_not_found(error):
                raise
        return None

    async def _migrate(
        self, migration: Obj, resource: GroupVersionResource, kind: str, version: int
    ) -> None:
        objects = await self._all(resource)
        old = [o for o in objects if int(meta(o)["resourceVersion"]) <= version]
        left = len(old)
        for obj in old:
            try:
                await self._touch(resource, kind, obj)
            except StatusError as error:
                # Changed or gone since: somebody else has written it, or nobody has to.
                if is_conflict(error) or is_not_found(error):
                    left -= 1
                    continue
                if error.code in RETRIABLE:
                    running = self._running(left, len(objects), error)
                    await self._write(with_condition(migration, running))
                    raise
                migration = with_condition(migration, self._running(left, len(objects)))
                await self._fail(migration, str(error), f"{left}/{len(objects)} not yet migrated. ")
                return
            left -= 1
        migration = with_condition(migration, self._running(left, len(objects)))
        done = self._condition("Succeeded", "StorageVersionMigrationSucceeded")
        await self._write(with_condition(migration, {**done, "message": "Migration completed"}))

    async def _all(self, resource: GroupVersionResource) -> list[Obj]:
        objects: list[Obj] = []
        options = ListOptions(limit=CHUNK)
        while True:
            listed = await self.client.list(resource, options=options)
            objects += listed.items
            if not listed.continue_token:
                return objects
            options = ListOptions(limit=CHUNK, continue_token=listed.continue_token)

    async def _touch(self, resource: GroupVersionResource, kind: str, obj: Obj) -> None:
        patch: dict[str, Any] = {
            "apiVersion": f"{resource.group}/{resource.version}"
            if resource.group
            else resource.version,
            "kind": kind,
            "metadata": {"uid": uid_of(obj), "resourceVersion": meta(obj)["resourceVersion"]},
        }
        await self.client.patch(
            resource,
            name_of(obj),
            patch,
            "application/merge-patch+json",
            namespace_of(obj),
            field_manager=self.name,
        )

    def _condition(self, type_: str, reason: str) -> Obj:
        return {
            "type": type_,
            "status": "True",
            "lastTransitionTime": self.timestamp(),
            "reason": reason,
            "message": "",
        }

    def _running(self, left: int, total: int, error: BaseException | None = None) -> Obj:
        condition = self._condition("Running", "MigrationRunning")
        return {**condition, "message": running_message(left, total, error)}

    async def _fail(self, migration: Obj, error: str, progress: str = "") -> None:
        condition = self._condition("Failed", "StorageVersionMigrationFailed")
        condition["message"] = f"{progress}migration encountered unhandled error: {error}"
        await self._write(with_condition(migration, condition))

    async def _write(self, migration: Obj) -> None:
        await self.client.update(STORAGE_VERSION_MIGRATIONS, migration, subresource="status")
