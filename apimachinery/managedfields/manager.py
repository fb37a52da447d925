"""The field manager: keeps ``metadata.managedFields`` right on every write.

``update`` serves create, update and all patch types but apply; ``apply`` is server-side apply.
Objects are compared structurally, and identical sub-trees cost nothing. The managers of other
API versions of a kind are treated as if their fields had the same paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.managedfields.apply import ApplyConflict as ApplyConflict
from pilothouse.apimachinery.managedfields.apply import apply as apply
from pilothouse.apimachinery.managedfields.apply import conflict_status as conflict_status
from pilothouse.apimachinery.managedfields.creation import fields_of_new
from pilothouse.apimachinery.managedfields.entries import (
    UPDATE,
    Managed,
    cap_update_managers,
    encode_entries,
    manager_id,
    read_live_or_new,
    time_text,
)
from pilothouse.apimachinery.managedfields.tracking import (
    changes,
    reset_set,
    track_update,
    tracked_view,
    zero_object,
)
from pilothouse.apimachinery.managedfields.typed import TypedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema


def update(
    old: Obj | None,
    new: Obj,
    schema: TypeSchema,
    *,
    manager: str,
    api_version: str,
    time: datetime | str,
    subresource: str = "",
    reset_fields: Iterable[tuple[str, ...]] = (),
) -> None:
    """Puts managedFields into ``new``, which is about to be written; ``old`` is None on create.

    ``new["metadata"]`` is replaced by a copy, so it may be shared with ``old``. An object
    without managedFields stays so until it is applied to. Never fails: what cannot be compared
    keeps the live object's managedFields.
    """
    metadata = new.get("metadata")
    if type(metadata) is not dict:
        return
    old_metadata = (old.get("metadata") or {}) if old is not None else {}
    managers = read_live_or_new(old_metadata, metadata, subresource)
    if not managers and old is not None:
        _set_entries(new, metadata, [])
        return
    name = manager_id(manager, UPDATE, api_version, subresource)
    try:
        if old is None and not managers:
            fields = fields_of_new(new, schema, tuple(reset_fields))
            managers = {name: Managed(fields, api_version, time_text(time))} if fields else {}
        else:
            before = tracked_view(old) if old is not None else zero_object(schema)
            comparison = changes(before, tracked_view(new), schema, reset_set(reset_fields))
            managers = track_update(managers, comparison, name, api_version, time_text(time))
    except TypedError:
        _set_entries(new, metadata, old_metadata.get("managedFields") or [])
        return
    _set_entries(new, metadata, encode_entries(cap_update_managers(managers)))


def _set_entries(new: Obj, metadata: Obj, entries: list[Obj]) -> None:
    if not entries and "managedFields" not in metadata:
        return
    metadata = dict(metadata)
    metadata.pop("managedFields", None)
    if entries:
        metadata["managedFields"] = entries
    new["metadata"] = metadata


def ignore_timestamps(new: Obj, old: Obj) -> Obj:
    """``new``, with ``old``'s managedFields when it differs from ``old`` only in their times.

    So that applying the same twice writes nothing (IgnoreManagedFieldsTimestampsTransformer).
    """
    old_metadata, metadata = old.get("metadata") or {}, new.get("metadata") or {}
    before, after = old_metadata.get("managedFields"), metadata.get("managedFields")
    if not before or not after or len(before) != len(after) or before == after:
        return new
    if [_timeless(entry) for entry in before] != [_timeless(entry) for entry in after]:
        return new
    reverted = {**metadata, "managedFields": before}
    if reverted != old_metadata or new.keys() != old.keys():
        return new
    if any(value != old[key] for key, value in new.items() if key != "metadata"):
        return new
    return {**new, "metadata": reverted}


def _timeless(entry: Obj) -> Obj:
    return {k: v for k, v in entry.items() if k != "time"}
