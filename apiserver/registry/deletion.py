"""Deleting: grace periods, finalizers, propagation (the delete half of upstream's Store).

An object goes away at once only when nothing holds it: no grace period, no finalizer, no
garbage collection policy that asks for one. Else the delete is an update, and whoever removes
the last reason to wait deletes the object for good (``store.py``, ``should_delete_during_update``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found, new_conflict, new_not_found
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.registry.before import (
    before_delete,
    check_delete_preconditions,
    mark_as_deleting,
)
from pilothouse.apiserver.registry.interpret import OPTIMISTIC_LOCK, interpret
from pilothouse.apiserver.registry.strategy import UNSUPPORTED
from pilothouse.apiserver.storage.errors import OutcomeUnknown, RevisionConflict, StorageError
from pilothouse.apiserver.storage.versioner import encode, splice

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.store import Store
    from pilothouse.apiserver.registry.strategy import Strategy
    from pilothouse.apiserver.registry.write import Write
    from pilothouse.apiserver.storage.cacher.watch_cache import Entry

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_RETRIES = 200
RETURNS_DELETED_OBJECT = frozenset(
    (
        "csidrivers.storage.k8s.io",
        "csinodes.storage.k8s.io",
        "deviceclasses.resource.k8s.io",
        "namespaces",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourceclaims.resource.k8s.io",
        "resourceclaimtemplates.resource.k8s.io",
        "resourcequotas",
        "resourceslices.resource.k8s.io",
        "serviceaccounts",
        "services",
        "storageclasses.storage.k8s.io",
        "volumeattachments.storage.k8s.io",
        "volumeattributesclasses.storage.k8s.io",
    )
)
"""Upstream's stores with ReturnDeletedObject; a DELETE of others answers with a Status."""


def pending_spec_finalizers(obj: Obj) -> bool:
    """A Namespace that its controller has not emptied yet."""
    return obj.get("kind") == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))


async def delete(store: Store, write: Write, options: Obj) -> tuple[Entry | Obj, bool]:
    """One DELETE; ``options`` is a DeleteOptions that this call may change."""
    key = store.served.key(write.namespace, write.name)
    entry = await store.live(key)
    if entry is None or not store.storage.synchronous_watch:
        entry = await store.read(key)
    for _ in range(_RETRIES):
        if entry is None:
            raise new_not_found(store.resource, write.name)
        try:
            return await _attempt(store, write, key, entry, options)
        except RevisionConflict as conflict:
            entry = store.entry_of(conflict.current)
        except StorageError as error:
            raise interpret(error, "delete", store.resource, write.name) from error
    raise new_conflict(store.resource, write.name, OPTIMISTIC_LOCK)


async def _attempt(
    store: Store, write: Write, key: str, entry: Entry, options: Obj
) -> tuple[Entry | Obj, bool]:
    if pending_spec_finalizers(entry.obj) or (
        entry.obj.get("kind") == "Namespace" and not entry.obj["metadata"].get("deletionTimestamp")
    ):
        return await _delete_namespace(store, write, key, entry, options)
    strategy, context = store.strategy, store.context
    live = entry.obj
    gvk = store.served.gvk
    check_delete_preconditions(live, options, gvk.group, gvk.kind)
    marked = strategy.mark_for_deletion(context, live)
    if marked is not None:
        await _admit(store, write, live)
        return await _write(store, write, key, entry, marked), False
    mutable = {**live, "metadata": dict(live["metadata"])}
    asked = dict(options)
    graceful, pending = before_delete(strategy, context, mutable, asked)
    if pending:
        return entry, False
    metadata = mutable["metadata"]
    finalizers = _finalizers(strategy, live, asked)
    changed = finalizers != list(live["metadata"].get("finalizers") or ())
    if changed:
        metadata["finalizers"] = finalizers
        if not finalizers:
            del metadata["finalizers"]
    await _admit(store, write, live)
    if graceful or finalizers or changed:
        if finalizers and not graceful:
            mark_as_deleting(metadata, context.clock.now())
        if graceful or finalizers:
            updated = await _write(store, write, key, entry, mutable)
            if finalizers or asked["gracePeriodSeconds"] > 0:
                return updated, False
            if write.dry_run:
                return updated, True
            entry = updated
    return await _remove(store, write, key, entry), True


async def _admit(store: Store, write: Write, live: Obj) -> None:
    if write.subresource:
        return  # an eviction, which has been admitted as what it is
    attributes = write.attributes("DELETE", None, live)
    await store.admission.admit(attributes)
    await store.admission.validate(attributes)


async def _write(store: Store, write: Write, key: str, entry: Entry, obj: Obj) -> Entry:
    """The update that marks the object. :raises RevisionConflict: it changed meanwhile."""
    data = encode(obj)
    if splice(data, entry.revision) == entry.data:
        return entry
    if write.dry_run:
        return store.dry_result(key, entry, data)
    data = store.stored_form(key, obj, data)
    revision = await store.storage.update(key, data, expected=entry.revision, ttl=store.ttl)
    return await store.written(key, data, revision)


async def _remove(store: Store, write: Write, key: str, entry: Entry) -> Entry | Obj:
    if not write.dry_run:
        try:
            await store.followed(await store.storage.delete(key, expected=entry.revision))
        except OutcomeUnknown:
            if await store.storage.get(key) is not None:
                raise
        store.strategy.after_delete(store.context, entry.obj)
    if str(store.resource) in RETURNS_DELETED_OBJECT:
        return entry
    metadata = entry.obj["metadata"]
    group = write.served.gvr.group
    details = {"name": metadata["name"]} | ({"group": group} if group else {})
    details |= {"kind": store.resource.resource, "uid": metadata.get("uid") or ""}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def _finalizers(strategy: Strategy, obj: Obj, options: Obj) -> list[str]:
    """The object's finalizers with the garbage collector's two as the delete asks."""
    current = list(obj["metadata"].get("finalizers") or ())
    orphan = _should_orphan(strategy, obj, current, options)
    foreground = _should_delete_in_foreground(strategy, obj, current, options)
    if orphan == (ORPHAN in current) and foreground == (FOREGROUND in current):
        return current
    finalizers = [name for name in current if name not in (ORPHAN, FOREGROUND)]
    if orphan:
        finalizers.append(ORPHAN)
    if foreground:
        finalizers.append(FOREGROUND)
    return finalizers


def _should_orphan(strategy: Strategy, obj: Obj, current: list[str], options: Obj) -> bool:
    default = strategy.default_propagation(obj)
    if default == UNSUPPORTED:
        return False
    if options.get("orphanDependents") is not None:
        return bool(options["orphanDependents"])
    policy = options.get("propagationPolicy")
    if policy is not None:
        return bool(policy == "Orphan")
    for name in current:
        if name in (ORPHAN, FOREGROUND):
            return name == ORPHAN
    return default == "orphan"


def _should_delete_in_foreground(
    strategy: Strategy, obj: Obj, current: list[str], options: Obj
) -> bool:
    if strategy.default_propagation(obj) == UNSUPPORTED:
        return False
    if options.get("orphanDependents") is not None:
        return False
    policy = options.get("propagationPolicy")
    if policy is not None:
        return bool(policy == "Foreground")
    for name in current:
        if name in (ORPHAN, FOREGROUND):
            return name == FOREGROUND
    return False


async def _delete_namespace(
    store: Store, write: Write, key: str, entry: Entry, options: Obj
) -> tuple[Entry, bool]:
    """The first delete of a Namespace turns it to Terminating; its controller does the rest."""
    live = entry.obj
    metadata = live["metadata"]
    _check_namespace_preconditions(store, write, live, options)
    if metadata.get("deletionTimestamp"):
        return entry, False
    uid = {"uid": metadata.get("uid"), **(options.get("preconditions") or {})}
    write.options = {**write.options, "preconditions": uid}
    await _admit(store, write, live)
    metadata = {**metadata, "deletionTimestamp": format_time(store.context.clock.now())}
    finalizers = _finalizers(store.strategy, live, options)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    status = {**(live.get("status") or {}), "phase": "Terminating"}
    obj = {**live, "metadata": metadata, "status": status}
    return await _write(store, write, key, entry, copy_object(obj)), False


def _check_namespace_preconditions(store: Store, write: Write, live: Obj, options: Obj) -> None:
    preconditions = options.get("preconditions") or {}
    for field, path in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        wanted = preconditions.get(path)
        found = live["metadata"].get(path) or ""
        if wanted is not None and wanted != found:
            text = (
                f"Precondition failed: {field} in precondition: {wanted}, {field} in object meta: "
                f"{found}"
            )
            raise new_conflict(store.resource, write.name, text)


async def delete_collection(
    store: Store, write: Write, options: Obj, entries: list[Entry]
) -> list[Entry]:
    """One after the other; the first failure but "not found" ends it, as upstream."""
    write.collection = True
    for entry in entries:
        write.name, write.namespace = entry.name, entry.namespace
        try:
            await delete(store, write, dict(options))
        except StatusError as error:
            if not is_not_found(error):
                raise
    return entries
