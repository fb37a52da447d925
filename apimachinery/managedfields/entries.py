"""``metadata.managedFields`` between its wire form and a table of managers.

A manager is named by (manager, operation, apiVersion, subresource); appliers keep theirs when
they move to another version. Entries that cannot be read count as none (upstream's rule).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.apimachinery.managedfields.fieldset import FieldSet, FieldSetError, decode, union
from pilothouse.apimachinery.timefmt import format_time

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

UPDATE = "Update"
APPLY = "Apply"
MAX_UPDATE_MANAGERS = 10
ANCIENT_CHANGES = "ancient-changes"


class ManagerID(NamedTuple):
    """``api_version`` is empty for appliers."""

    manager: str
    operation: str
    api_version: str
    subresource: str

    def identifier(self) -> str:
        """Upstream's name of it: managers are told in the order of these."""
        import json

        keys = ("manager", "operation", "apiVersion", "subresource")
        named = {key: value for key, value in zip(keys, self, strict=True) if value}
        return json.dumps(named, separators=(",", ":"), ensure_ascii=False)

    def text(self) -> str:
        """As conflicts name it."""
        import json

        shown = json.dumps(self.manager, ensure_ascii=False)
        if self.subresource:
            shown += f" with subresource {json.dumps(self.subresource, ensure_ascii=False)}"
        return f"{shown} using {self.api_version}" if self.operation == UPDATE else shown


@dataclass(slots=True)
class Managed:
    """What one manager owns."""

    fields: FieldSet
    api_version: str
    time: str | None

    def replaced(self, fields: FieldSet) -> Managed:
        return Managed(fields, self.api_version, self.time)


Managers = dict[ManagerID, Managed]


def manager_id(manager: str, operation: str, api_version: str, subresource: str) -> ManagerID:
    version = "" if operation == APPLY else api_version
    return ManagerID(manager or "unknown", operation, version, subresource)


def time_text(time: datetime | str) -> str:
    return format_time(time) if isinstance(time, datetime) else time


def decode_entries(entries: Any, *, trusted: bool) -> Managers:
    """The managers of an object; ``trusted`` entries were written by the API server.

    :raises FieldSetError: an entry cannot be read.
    """
    managers: Managers = {}
    if entries is not None and type(entries) is not list:
        raise FieldSetError("expected a list")
    for i, entry in enumerate(entries or ()):
        if type(entry) is not dict:
            raise FieldSetError("expected a map")
        operation = entry.get("operation")
        version = entry.get("apiVersion")
        fields_type = entry.get("fieldsType")
        if operation not in (APPLY, UPDATE):
            raise FieldSetError("operation must be `Apply` or `Update`")
        if not version:
            raise FieldSetError("apiVersion must not be empty")
        if fields_type != "FieldsV1":
            if not fields_type:
                raise FieldSetError(f"missing fieldsType in managed fields entry {i}")
            raise FieldSetError(f'invalid fieldsType "{fields_type}" in managed fields entry {i}')
        fields = entry.get("fieldsV1")
        if not trusted or type(fields) is not dict:
            fields = decode(fields)
        name = ManagerID(
            entry.get("manager") or "",
            operation,
            "" if operation == APPLY else version,
            entry.get("subresource") or "",
        )
        managers[name] = Managed(fields, version, entry.get("time"))
    return managers


def read_live(metadata: Obj) -> Managers:
    try:
        return decode_entries(metadata.get("managedFields"), trusted=True)
    except FieldSetError:
        return {}


def read_live_or_new(old_metadata: Obj, new_metadata: Obj, subresource: str) -> Managers:
    """The new object's entries when the request may set them and they can be read."""
    entries = new_metadata.get("managedFields")
    live = old_metadata.get("managedFields")
    if subresource or entries is None or entries is live or entries == live:
        if entries == [] and not subresource:
            return {}
        return read_live(old_metadata)
    if entries in ([], [{}]):
        # The client wants the tracking reset.
        return {}
    try:
        managers = decode_entries(entries, trusted=False)
    except FieldSetError:
        managers = {}
    return managers or read_live(old_metadata)


def encode_entries(managers: Managers) -> list[Obj]:
    """Wire entries in upstream's order."""
    return [_encode(name, managed) for name, managed in sorted(managers.items(), key=_order)]


def _encode(name: ManagerID, managed: Managed) -> Obj:
    entry: Obj = {}
    if name.manager:
        entry["manager"] = name.manager
    entry["operation"] = name.operation
    entry["apiVersion"] = managed.api_version
    if managed.time:
        entry["time"] = managed.time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = managed.fields
    if name.subresource:
        entry["subresource"] = name.subresource
    return entry


def _order(item: tuple[ManagerID, Managed]) -> tuple[str, str, str, str, str]:
    name, managed = item
    time = managed.time or ""
    return (name.operation, time, name.manager, managed.api_version, name.subresource)


def cap_update_managers(managers: Managers) -> Managers:
    """At most ten ``Update`` entries: the oldest of a version become ``ancient-changes``."""
    updaters = [name for name in managers if name.operation == UPDATE]
    if len(updaters) <= MAX_UPDATE_MANAGERS:
        return managers
    managers = dict(managers)
    updaters.sort(key=lambda name: (managers[name].time or "", *name))
    count = len(updaters)
    first_of_version: dict[str, ManagerID] = {}
    for name in updaters:
        if count <= MAX_UPDATE_MANAGERS:
            break
        managed = managers[name]
        version = managed.api_version
        first = first_of_version.setdefault(version, name)
        if first is name:
            continue
        bucket = ManagerID(ANCIENT_CHANGES, UPDATE, version, "")
        if bucket not in managers:
            managers[bucket] = managers.pop(first)
        merged = union(managed.fields, managers[bucket].fields)
        # The entry that is merged is the more recent one.
        managers[bucket] = Managed(merged, version, managed.time)
        if name != bucket:
            del managers[name]
        count -= 1
    return managers
