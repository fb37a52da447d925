"""The common steps before a create, an update and a delete (apiserver pkg/registry/rest).

Pure but for what strategies do; ``store.py`` calls these inside its read-modify-write loops.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_bad_request, new_conflict, new_invalid
from pilothouse.apimachinery.fieldpath import Path
from pilothouse.apimachinery.metavalidation import (
    validate_object_meta,
    validate_object_meta_update,
)
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time, parse_time
from pilothouse.apis.core.disabled_fields import drop_disabled_fields
from pilothouse.apis.meta.equality import semantic_equal

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupKind
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.strategy import Strategy

METADATA = Path("metadata")
_WORKLOADS = ("", "apps", "batch")
_SYSTEM_FIELDS = (
    "creationTimestamp",
    "uid",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)
_DUPLICATES = (
    ".metadata.ownerReferences contains duplicate entries{}; API server dedups owner references "
    "in 1.20+, and may reject such requests as early as 1.24; please fix your requests; "
    "duplicate UID(s) observed: {}"
)


def _metadata_errors(strategy: Strategy, metadata: Obj) -> ErrorList:
    return validate_object_meta(
        metadata,
        namespaced=strategy.namespaced,
        name_errors=strategy.name_errors,
        path=METADATA,
    )


def new_uid(random: Random) -> str:
    """A version 4 UUID."""
    bits = random.getrandbits(128)
    bits = bits & ~(0xF000 << 64) | 0x4000 << 64
    bits = bits & ~(0xC000 << 48) | 0x8000 << 48
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def wipe_system_fields(metadata: Obj) -> None:
    for key in _SYSTEM_FIELDS:
        metadata.pop(key, None)


def fill_system_fields(metadata: Obj, context: RegistryContext) -> None:
    metadata["uid"] = new_uid(context.random)
    metadata["creationTimestamp"] = format_time(context.clock.now())


def ensure_namespace(metadata: Obj, namespace: str) -> None:
    """Sets the object's namespace from the request's. :raises StatusError: 400, they differ."""
    own = metadata.get("namespace") or ""
    if own == namespace:
        if not own:
            metadata.pop("namespace", None)
    elif not own:
        metadata["namespace"] = namespace
    elif not namespace:
        del metadata["namespace"]
    else:
        raise new_bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def dedup_owner_references(obj: Obj, warnings: list[str], *, after_admission: bool) -> None:
    metadata = obj["metadata"]
    references = metadata.get("ownerReferences")
    if not references or len(references) < 2:
        return
    kept: list[Any] = []
    duplicates = []
    for reference in references:
        if reference in kept:
            duplicates.append(reference.get("uid") or "")
        else:
            kept.append(reference)
    if duplicates:
        metadata["ownerReferences"] = kept
        when = " after mutating admission happens" if after_admission else ""
        warnings.append(_DUPLICATES.format(when, ", ".join(duplicates)))


def before_create(
    strategy: Strategy, context: RegistryContext, kind: GroupKind, obj: Obj, warnings: list[str]
) -> None:
    """prepare → validate → warnings → canonicalize. :raises StatusError: 422."""
    metadata = obj["metadata"]
    if strategy.has_generation:
        metadata["generation"] = 1
    if kind.group in _WORKLOADS:
        drop_disabled_fields(kind.kind, obj)
    strategy.prepare_for_create(context, obj)
    errors = _metadata_errors(strategy, metadata)
    errors += strategy.validate_after(context, obj, errors)
    if len(errors) > 1 and not strategy.repeats_errors:
        errors = _each_once(errors)
    if errors:
        raise new_invalid(kind, metadata.get("name") or "", errors)
    warnings += strategy.warnings_on_create(context, obj)
    strategy.canonicalize(obj)


def before_update(
    strategy: Strategy,
    context: RegistryContext,
    kind: GroupKind,
    obj: Obj,
    old: Obj,
    warnings: list[str],
    *,
    status: bool = False,
) -> None:
    """The same for an update; ``status``: of the status sub-resource. :raises StatusError: 422."""
    metadata, before = obj["metadata"], old["metadata"]
    _keep(metadata, before, "generation")
    if status:
        strategy.prepare_status_update(context, obj, old)
    else:
        if kind.group in _WORKLOADS:
            drop_disabled_fields(kind.kind, obj, old)
        strategy.prepare_for_update(context, obj, old)
        metadata = obj["metadata"]  # a strategy may have put another in its place
        if strategy.has_generation and _spec_changed(obj, old):
            metadata["generation"] = (before.get("generation") or 0) + 1
    if not metadata.get("uid"):
        metadata["uid"] = before.get("uid")
    _keep(metadata, before, "creationTimestamp")
    if before.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = before["deletionTimestamp"]
    if (
        before.get("deletionGracePeriodSeconds") is not None
        and metadata.get("deletionGracePeriodSeconds") is None
    ):
        metadata["deletionGracePeriodSeconds"] = before["deletionGracePeriodSeconds"]
    errors = _metadata_errors(strategy, metadata)
    errors += validate_object_meta_update(metadata, before, METADATA)
    if errors:  # both look at labels, annotations and owners
        errors = errors * 2 if strategy.repeats_metadata_errors else _each_once(errors)
    if status:
        errors += strategy.validate_status_update(context, obj, old)
    else:
        errors += strategy.validate_update(context, obj, old)
    if len(errors) > 1 and not strategy.repeats_errors:
        errors = _each_once(errors)
    if errors:
        raise new_invalid(kind, metadata.get("name") or "", errors)
    if not status:
        warnings += strategy.warnings_on_update(context, obj, old)
    strategy.canonicalize(obj)


def _each_once(errors: ErrorList) -> ErrorList:
    return list({(e.field, e.body()): e for e in errors}.values())


def _keep(metadata: Obj, before: Obj, key: str) -> None:
    if key in before:
        metadata[key] = before[key]
    else:
        metadata.pop(key, None)


def _spec_changed(obj: Obj, old: Obj) -> bool:
    """Whether anything but metadata and status differs (and the strategy has not counted it)."""
    if obj["metadata"].get("generation") != old["metadata"].get("generation"):
        return False
    for key in obj.keys() | old.keys():
        if key in ("metadata", "status", "kind", "apiVersion"):
            continue
        new, before = obj.get(key), old.get(key)
        if new != before and not semantic_equal(new, before):
            return True
    return False


def merge_status(obj: Obj, old: Obj, *, custom: bool) -> Obj:
    """``old`` with the status of ``obj`` and, of its metadata, what a status update may change."""
    merged = {key: value for key, value in old.items() if key != "status"}
    if "status" in obj:
        merged["status"] = obj["status"]
    metadata = obj.get("metadata") or {}
    if custom:
        kept = dict(old["metadata"])
        for key in ("managedFields", "resourceVersion", "uid", "name", "namespace"):
            if key in metadata:
                kept[key] = metadata[key]
            else:
                kept.pop(key, None)
        metadata = kept
    merged["metadata"] = metadata
    return merged


def check_delete_preconditions(obj: Obj, options: Obj, group: str, kind: str) -> None:
    preconditions = options.get("preconditions")
    if not preconditions:
        return
    metadata = obj["metadata"]
    name = metadata.get("name") or ""
    uid, version = preconditions.get("uid"), preconditions.get("resourceVersion")
    resource = GroupResource(group, kind)
    if uid is not None and uid != metadata.get("uid"):
        raise new_conflict(
            resource,
            name,
            f"the UID in the precondition ({uid}) does not match the UID in record "
            f"({metadata.get('uid')}). The object might have been deleted and then recreated",
        )
    if version is not None and version != metadata.get("resourceVersion"):
        raise new_conflict(
            resource,
            name,
            f"the ResourceVersion in the precondition ({version}) does not match the "
            f"ResourceVersion in record ({metadata.get('resourceVersion')}). The object might "
            "have been modified",
        )


def before_delete(
    strategy: Strategy, context: RegistryContext, obj: Obj, options: Obj
) -> tuple[bool, bool]:
    """(graceful, already pending). Changes ``obj`` (a copy of the caller's) and ``options``."""
    metadata = obj["metadata"]
    requested = options.get("gracePeriodSeconds")
    if requested is not None and requested < 0:
        requested = options["gracePeriodSeconds"] = 1
    current = metadata.get("deletionGracePeriodSeconds")
    if current is not None and current < 0:
        current = metadata["deletionGracePeriodSeconds"] = 1
    if not strategy.graceful:
        return False, False
    if metadata.get("deletionTimestamp"):
        if not current:
            return False, False
        if requested is None:
            options["gracePeriodSeconds"] = current
            return False, True
        if requested >= current:
            return False, True
        _shorten(metadata, current, requested, context)
        return True, False
    period = strategy.grace_period(context, obj, requested)
    options["gracePeriodSeconds"] = period
    _set_deletion(metadata, context.clock.now() + timedelta(seconds=period), period)
    if (metadata.get("generation") or 0) > 0:
        metadata["generation"] += 1
    return True, False


def _shorten(metadata: Obj, current: int, requested: int, context: RegistryContext) -> None:
    moment = parse_time(metadata["deletionTimestamp"]) + timedelta(seconds=requested - current)
    now = context.clock.now()
    if moment < now:
        # The old period is over: one second is the shortest that is still a graceful deletion.
        moment, requested = now, 1 if requested else 0
    _set_deletion(metadata, moment, requested)


def _set_deletion(metadata: Obj, moment: datetime, period: int) -> None:
    metadata["deletionTimestamp"] = format_time(moment)
    metadata["deletionGracePeriodSeconds"] = period


def mark_as_deleting(metadata: Obj, now: datetime) -> None:
    """For an object that only waits for its finalizers."""
    existing = metadata.get("deletionTimestamp")
    if not existing and (metadata.get("generation") or 0) > 0:
        metadata["generation"] += 1
    if not existing or parse_time(existing) > now:
        metadata["deletionTimestamp"] = format_time(now)
    metadata["deletionGracePeriodSeconds"] = 0


def should_delete_during_update(obj: Obj, old: Obj) -> bool:
    """The update took the last finalizer of an object that was waiting to be deleted."""
    before = old["metadata"]
    return (
        not obj["metadata"].get("finalizers")
        and bool(before.get("deletionTimestamp"))
        and not before.get("deletionGracePeriodSeconds")
    )
