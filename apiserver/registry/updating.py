"""Read-modify-write: the compare-and-swap loop behind updates, patches and applies.

The update half of upstream's Store. An attempt starts from the cached object; with a store whose
watch lags behind, a refusal or a no-op that came from a cached object is checked against the
store's own before it counts. Whoever loses the race tries again from the winner's object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pilothouse.apimachinery.errors import (
    StatusError,
    is_already_exists,
    new_conflict,
    new_invalid,
    new_not_found,
    new_unclassified,
)
from pilothouse.apimachinery.fieldpath import BAD_VALUE_OMITTED, FieldError
from pilothouse.apimachinery.managedfields import manager as field_manager
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupKind
from pilothouse.apiserver.codec.zero_values import fill_status, fill_zero_values
from pilothouse.apiserver.registry.before import (
    before_update,
    dedup_owner_references,
    ensure_namespace,
    merge_status,
    should_delete_during_update,
    wipe_system_fields,
)
from pilothouse.apiserver.registry.deletion import pending_spec_finalizers
from pilothouse.apiserver.registry.interpret import (
    OPTIMISTIC_LOCK,
    interpret,
    precondition_failed,
)
from pilothouse.apiserver.registry.strategy import Strategy
from pilothouse.apiserver.storage.errors import OutcomeUnknown, RevisionConflict, StorageError
from pilothouse.apiserver.storage.versioner import encode, parse_revision, splice

if TYPE_CHECKING:
    from pilothouse.apiserver.registry.store import Store
    from pilothouse.apiserver.registry.write import Write
    from pilothouse.apiserver.storage.cacher.watch_cache import Entry

Mode = Literal["main", "status", "other"]
"""Which hooks an update runs; ``other`` is a sub-resource that brings its own strategy."""
Mutate = Callable[[Obj | None], Obj]
_CONFLICT_RETRIES = 200
_MUST_BE_SPECIFIED = FieldError(
    "FieldValueInvalid",
    "metadata.resourceVersion",
    BAD_VALUE_OMITTED,
    "0: must be specified for an update",
)


class Update:
    """One update with all its attempts; parameters as in ``Store.update``."""

    __slots__ = ("hooks", "key", "managed", "may_create", "mode", "mutate", "store", "uid", "write")

    def __init__(
        self,
        store: Store,
        write: Write,
        mutate: Mutate,
        mode: Mode,
        managed: bool,
        hooks: Strategy,
        may_create: bool,
        uid: str,
    ) -> None:
        self.store = store
        self.write = write
        self.mutate = mutate
        self.mode = mode
        self.managed = managed
        self.hooks = hooks
        self.may_create = may_create
        self.uid = uid
        self.key = store.served.key(write.namespace, write.name)

    async def run(self) -> tuple[Entry, bool]:
        """:raises StatusError: 404, 409, 422 and whatever admission says."""
        store, write = self.store, self.write
        existing = await store.live(self.key)
        cached = not store.storage.synchronous_watch
        for _ in range(_CONFLICT_RETRIES):
            try:
                self._check_existing(existing)
                if existing is None:
                    return await self._create(), True
                obj = await self._updated(existing)
                if cached and _same(obj, existing):
                    # Nothing to write, if what we compared with is still the truth.
                    fresh, cached = await store.read(self.key), False
                    if fresh is None or fresh.revision != existing.revision:
                        existing = fresh
                        continue
            except StatusError as error:
                raced = existing is None and self.may_create and is_already_exists(error)
                if not cached and not raced:
                    raise
                fresh, cached = await store.read(self.key), False
                if (fresh and fresh.revision) == (existing and existing.revision):
                    raise
                existing = fresh
                continue
            try:
                return await replace(store, write, self.key, existing, obj, self.hooks), False
            except RevisionConflict as conflict:
                existing, cached = store.entry_of(conflict.current), False
            except StorageError as error:
                raise interpret(error, "update", store.resource, write.name) from error
        raise new_conflict(store.resource, write.name, OPTIMISTIC_LOCK)

    def _check_existing(self, existing: Entry | None) -> None:
        resource, name = self.store.resource, self.write.name
        if existing is None and not self.may_create:
            raise new_not_found(resource, name)
        if self.uid:
            found = "" if existing is None else existing.obj["metadata"].get("uid") or ""
            if self.uid != found:
                raise precondition_failed(resource, name, self.key, "UID", self.uid, found)

    async def _create(self) -> Entry:
        store, write = self.store, self.write
        obj = self.mutate(None)
        if write.authorize_create is not None:
            await write.authorize_create()
        metadata = obj["metadata"]
        if not write.dry_run:
            metadata.pop("resourceVersion", None)
        wipe_system_fields(metadata)
        ensure_namespace(metadata, write.namespace if store.strategy.namespaced else "")
        fill_zero_values(obj, write.served.schema)
        store.drop_status(obj)
        if not self.managed:
            store.update_managed_fields(write, None, obj)
        attributes = write.attributes("CREATE", store.to_storage(write, obj), None)
        attributes.redecode = store.redecode
        await store.admission.admit(attributes)
        assert attributes.obj is not None
        return await store.create_admitted(write, attributes.obj)

    async def _updated(self, existing: Entry) -> Obj:
        """The object to write in place of ``existing``, fully checked."""
        store, write, hooks = self.store, self.write, self.hooks
        old = existing.obj
        live = old if write.served.converter is None else write.served.converter.from_storage(old)
        obj = self.mutate(live)
        metadata = obj["metadata"]
        ensure_namespace(metadata, write.namespace if store.strategy.namespaced else "")
        self._check_resource_version(metadata, existing)
        dedup_owner_references(obj, write.warnings, after_admission=False)
        fill_zero_values(obj, write.served.schema)
        if self.mode == "status":
            obj = merge_status(obj, live, custom=store.served.resource.custom)
        elif self.mode == "main" and hooks.has_status:
            _restore_status(obj, live)
        if not self.managed:
            store.update_managed_fields(write, live, obj)
        if store.versions_differ:
            await store.reconcile_managers(write, live, obj, apply=self.managed)
        obj = await _admit(store, write, store.to_storage(write, obj), old)
        metadata = obj["metadata"]
        if not metadata.get("resourceVersion"):
            metadata["resourceVersion"] = str(existing.revision)
        ensure_namespace(obj["metadata"], write.namespace if store.strategy.namespaced else "")
        dedup_owner_references(obj, write.warnings, after_admission=True)
        kind, status = store.served.gvk.group_kind, self.mode == "status"
        before_update(hooks, store.context, kind, obj, old, write.warnings, status=status)
        if store.strategy.has_status:
            fill_status(obj, store.served.schema)
        obj = field_manager.ignore_timestamps(obj, old)
        view = write.view
        shown = (obj, old) if view is None else (view.show(obj), view.show(old))
        await store.admission.validate(write.attributes("UPDATE", *shown))
        return obj

    def _check_resource_version(self, metadata: Obj, existing: Entry) -> None:
        """:raises StatusError: 400 (no number), 409, 422."""
        given = metadata.get("resourceVersion")
        if given == str(existing.revision):
            return
        try:
            revision = parse_revision(given or "")
        except ValueError as error:
            raise new_unclassified(str(error)) from error
        resource, name = self.store.resource, self.write.name
        if revision:
            if revision != existing.revision:
                raise new_conflict(resource, name, OPTIMISTIC_LOCK)
        elif not self.store.strategy.allow_unconditional_update:
            kind = GroupKind(resource.group, resource.resource)
            raise new_invalid(kind, name, [_MUST_BE_SPECIFIED])


async def _admit(store: Store, write: Write, obj: Obj, old: Obj) -> Obj:
    """Mutating admission. :raises StatusError: refused."""
    view = write.view
    if view is None:
        attributes = write.attributes("UPDATE", obj, old)
        attributes.redecode = store.redecode
    else:
        attributes = write.attributes("UPDATE", view.show(obj), view.show(old))
    await store.admission.admit(attributes)
    assert attributes.obj is not None
    return attributes.obj if view is None else view.take(obj, attributes.obj)


def _restore_status(obj: Obj, live: Obj) -> None:
    if "status" in live:
        obj["status"] = live["status"]
    else:
        obj.pop("status", None)


def _same(obj: Obj, existing: Entry) -> bool:
    """Whether ``obj`` says what is stored; the order of its keys does not matter."""
    spliced = splice(encode(obj), existing.revision)
    return len(spliced) == len(existing.data) and (spliced == existing.data or obj == existing.obj)


async def replace(
    store: Store, write: Write, key: str, existing: Entry, obj: Obj, hooks: Strategy
) -> Entry:
    """Writes ``obj`` unless nothing changed. :raises RevisionConflict: changed meanwhile."""
    if should_delete_during_update(obj, existing.obj) and not pending_spec_finalizers(obj):
        return await _delete_emptied(store, write, key, existing, obj)
    data = encode(obj)
    spliced = splice(data, existing.revision)
    if spliced == existing.data or (len(spliced) == len(existing.data) and obj == existing.obj):
        if not await store.outdated(key):
            return existing
    rollback = None
    if type(hooks).begin_update is not Strategy.begin_update:
        rollback = hooks.begin_update(store.context, obj, existing.obj, write.dry_run)
        data = encode(obj)
    if write.dry_run:
        if rollback is not None:
            rollback()
        return store.dry_result(key, existing, data)
    data = store.stored_form(key, obj, data)
    try:
        revision = await store.storage.update(key, data, expected=existing.revision, ttl=store.ttl)
    except OutcomeUnknown:
        found = await store.storage.get(key)
        if found is None or found.value != data:
            raise
        revision = found.mod_revision
    except StorageError:
        if rollback is not None:
            rollback()
        raise
    return await store.written(key, data, revision)


async def _delete_emptied(store: Store, write: Write, key: str, existing: Entry, obj: Obj) -> Entry:
    """The last finalizer is gone: the update deletes. The client sees its own object."""
    if not write.dry_run:
        await store.storage.delete(key, expected=existing.revision)
        store.strategy.after_delete(store.context, existing.obj)
    return store.dry_result(key, existing, encode(obj))


async def write_through(
    store: Store, write: Write, change: Callable[[Obj], Obj], *, tracked: bool = True
) -> Entry:
    """``Store.write_through``: the same loop without hooks and admission."""
    key = store.served.key(write.namespace, write.name)
    existing = await store.live(key)
    cached = not store.storage.synchronous_watch
    for _ in range(_CONFLICT_RETRIES):
        try:
            if existing is None:
                raise new_not_found(store.resource, write.name)
            obj = change(existing.obj)
        except StatusError:
            if not cached:
                raise
            fresh, cached = await store.read(key), False
            if (fresh and fresh.revision) == (existing and existing.revision):
                raise
            existing = fresh
            continue
        if tracked:
            store.update_managed_fields(write, existing.obj, obj)
        try:
            return await replace(store, write, key, existing, obj, store.strategy)
        except RevisionConflict as conflict:
            existing, cached = store.entry_of(conflict.current), False
        except StorageError as error:
            raise interpret(error, "update", store.resource, write.name) from error
    raise new_conflict(store.resource, write.name, OPTIMISTIC_LOCK)
