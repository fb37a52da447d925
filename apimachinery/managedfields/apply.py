"""Server-side apply: merge an applied configuration, find conflicts, prune, record owners."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.apimachinery import errors
from pilothouse.apimachinery.managedfields import fieldset, typed
from pilothouse.apimachinery.managedfields.entries import (
    APPLY,
    UPDATE,
    Managed,
    ManagerID,
    Managers,
    encode_entries,
    manager_id,
    read_live,
    time_text,
)
from pilothouse.apimachinery.managedfields.tracking import (
    changes,
    reset_set,
    strip,
    take_from_others,
    track_update,
    tracked_view,
    zero_object,
)
from pilothouse.apimachinery.managedfields.typed import TypedError
from pilothouse.apimachinery.managedfields.validate import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from pilothouse.apimachinery.managedfields.fieldset import FieldSet
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema

BEFORE_FIRST_APPLY = "before-first-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATION_LIMIT = 256 * 1024


class Conflict(NamedTuple):
    """``path`` is printed, e.g. ``.spec.replicas``."""

    manager: ManagerID
    path: str


class ApplyConflict(Exception):
    """Other managers own what the applied configuration would change."""

    def __init__(self, conflicts: Iterable[Conflict]) -> None:
        self.conflicts = list(conflicts)
        self.message, self.causes = conflict_status(self.conflicts)
        super().__init__(self.message)

    def to_status_error(self) -> errors.StatusError:
        return errors.new_apply_conflict(self.causes, self.message)


def conflict_status(conflicts: list[Conflict]) -> tuple[str, list[dict[str, str]]]:
    """The message and the causes of the 409."""
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {conflict.manager.text()}",
            "field": conflict.path,
        }
        for conflict in conflicts
    ]
    if len(conflicts) == 1:
        only = conflicts[0]
        text = f"conflict with {only.manager.text()}: {only.path}"
        return f"Apply failed with 1 conflict: {text}", causes
    by_manager: dict[ManagerID, list[str]] = {}
    for conflict in conflicts:
        by_manager.setdefault(conflict.manager, []).append(conflict.path)
    lines: list[str] = []
    for manager in sorted(by_manager, key=ManagerID.identifier):
        lines.append(f"conflicts with {manager.text()}:")
        lines += [f"- {path}" for path in by_manager[manager]]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines), causes


def apply(
    live: Obj | None,
    applied: Obj,
    schema: TypeSchema,
    *,
    manager: str,
    api_version: str,
    time: datetime | str,
    force: bool = False,
    subresource: str = "",
    reset_fields: Iterable[tuple[str, ...]] = (),
    fits: Callable[[Obj, str], None] | None = None,
) -> Obj:
    """The object that results, with managedFields; neither input is changed.

    Parts of both may stand in the result. Defaults are the caller's business. ``fits`` raises
    TypedError for an object that another version in managedFields has no place for.

    :raises ApplyConflict: unless ``force``.
    :raises StatusError: the applied object does not fit (400).
    """
    _check_version(applied, api_version)
    base = live if live is not None else {}
    managers = read_live(base.get("metadata") or {})
    stamp = time_text(time)
    if live is not None and not managers:
        managers = _before_first_apply(live, schema, api_version, stamp, subresource)
    name = manager_id(manager, APPLY, api_version, subresource)
    others = {managed.api_version for managed in managers.values()} - {api_version}
    if fits is not None and others and live is not None:
        _check_fit(fits, live, others, "{}")
    try:
        applier = _Applier(base, applied, schema, reset_set(reset_fields))
        if fits is not None and others:
            _check_merged(fits, applier.merged, others, managers.get(name))
        result, managers, changed = _apply_with_upgrade(applier, managers, name, api_version, force)
    except TypedError as error:
        text = f"failed to create typed patch object ({_describe(applied)}): {error}"
        raise errors.new_unclassified(text) from None
    mine = managers.get(name)
    if changed and mine is not None:
        managers[name] = Managed(mine.fields, mine.api_version, stamp)
    result = dict(result)
    metadata = dict(result.get("metadata") or {})
    entries = encode_entries(managers)
    metadata.pop("managedFields", None)
    if entries:
        metadata["managedFields"] = entries
    result["metadata"] = metadata
    if manager == "kubectl":
        _sync_last_applied(metadata, applied)
    return result


def _check_fit(
    fits: Callable[[Obj, str], None], obj: Obj, api_versions: Iterable[str], text: str
) -> None:
    """:raises StatusError: 400; ``text`` says when it was found."""
    for version in sorted(api_versions):
        try:
            fits(obj, version)
        except TypedError as error:
            raise errors.new_unclassified(text.format(error, version=version)) from None


def _check_merged(
    fits: Callable[[Obj, str], None], merged: Obj, others: set[str], last: Managed | None
) -> None:
    """What upstream converts on its way: to what was applied last, then to all the others."""
    text = "failed to convert new object: {}"
    if last is not None and last.fields:
        where = "failed to prune fields: failed to convert merged object to last applied version: "
        _check_fit(fits, merged, others & {last.api_version}, where + "{}")
        text = (
            "failed to prune fields: failed add back owned items: failed to convert merged object "
            "at version {version}: {}"
        )
    _check_fit(fits, merged, others, text)


def _check_version(applied: Obj, api_version: str) -> None:
    version = applied.get("apiVersion") or ""
    if version != api_version:
        raise errors.new_bad_request(
            "Incorrect version specified in apply patch. Specified patch version: "
            f"{version}, expected: {api_version}"
        )
    if (applied.get("metadata") or {}).get("managedFields") is not None:
        raise errors.new_bad_request("metadata.managedFields must be nil")


def _describe(obj: Obj) -> str:
    metadata = obj.get("metadata") or {}
    # Go's GroupVersionKind shows the slash of the core group, too.
    group_version = obj.get("apiVersion") or ""
    return (
        f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}; "
        f"{group_version if '/' in group_version else '/' + group_version}, "
        f"Kind={obj.get('kind') or ''}"
    )


def _before_first_apply(
    live: Obj, schema: TypeSchema, api_version: str, time: str, subresource: str
) -> Managers:
    """An object that nobody tracked so far: all it holds is owned by a made-up updater."""
    name = manager_id(BEFORE_FIRST_APPLY, UPDATE, api_version, subresource)
    try:
        comparison = changes(zero_object(schema), tracked_view(live), schema, {})
    except TypedError:
        return {}
    return track_update({}, comparison, name, api_version, time)


class _Applier:
    """One applied configuration against one live object."""

    def __init__(self, live: Obj, applied: Obj, schema: TypeSchema, reset: FieldSet) -> None:
        validate(applied, schema)
        self.schema = schema
        self.reset = reset
        self.live = _without_managed_fields(live)
        self.fields = fieldset.recursive_difference(typed.to_field_set(applied, schema), reset)
        self.merged: Obj = typed.merge(self.live, applied, schema)

    def run(
        self, managers: Managers, name: ManagerID, api_version: str, force: bool
    ) -> tuple[Obj, Managers, bool]:
        """(object, managers, did it change). :raises ApplyConflict:"""
        last = managers.get(name)
        managers = {
            **managers,
            name: Managed(self.fields, api_version, last.time if last else None),
        }
        result = self.merged
        if last is not None:
            result = _prune(result, self.schema, managers, last.fields, self.fields)
        comparison = changes(tracked_view(self.live), tracked_view(result), self.schema, self.reset)
        changed = fieldset.union(comparison.modified, comparison.added)
        if not force:
            conflicts = _conflicts(managers, changed, name)
            if conflicts:
                raise ApplyConflict(conflicts)
        managers = dict(take_from_others(managers, comparison, changed, name))
        own = strip(self.fields)
        if own:
            managers[name] = managers[name].replaced(own)
        else:
            del managers[name]
        return result, managers, result != self.live


def _apply_with_upgrade(
    applier: _Applier, managers: Managers, name: ManagerID, api_version: str, force: bool
) -> tuple[Obj, Managers, bool]:
    try:
        return applier.run(managers, name, api_version, force)
    except ApplyConflict as conflict:
        if name.manager != "kubectl":
            raise
        allowed = _last_applied_fields(applier, api_version)
        if allowed is None:
            raise
        rest = [c for c in conflict.conflicts if c.path not in allowed]
        if rest:
            raise ApplyConflict(rest) from None
    # All conflicts are with this user's own client-side apply.
    return applier.run(managers, name, api_version, True)


def _last_applied_fields(applier: _Applier, api_version: str) -> set[str] | None:
    """Paths that the client-side apply annotation sets as they still are."""
    annotations = (applier.live.get("metadata") or {}).get("annotations") or {}
    try:
        last = json.loads(annotations.get(LAST_APPLIED) or "")
        if not isinstance(last, dict) or last.get("apiVersion") != api_version:
            return None
        fields = typed.to_field_set(last, applier.schema)
        for part in typed.compare(last, applier.live, applier.schema):
            fields = fieldset.difference(fields, part)
    except ValueError:
        return None
    return {fieldset.path_text(path) for path in fieldset.iterate(fields)}


def _without_managed_fields(obj: Obj) -> Obj:
    metadata = obj.get("metadata")
    if type(metadata) is not dict or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


def _conflicts(managers: Managers, changed: FieldSet, name: ManagerID) -> list[Conflict]:
    found: list[Conflict] = []
    for other in sorted(managers):
        if other != name:
            overlap = fieldset.intersection(managers[other].fields, changed)
            for path in fieldset.iterate(overlap):
                found.append(Conflict(other, fieldset.path_text(path)))
    return found


def _prune(
    merged: Obj, schema: TypeSchema, managers: Managers, last: FieldSet, current: FieldSet
) -> Obj:
    """Removes what the applier gave up and nobody else owns."""
    if not fieldset.difference(last, current):
        return merged
    named = fieldset.ensure_named_fields_are_members
    last = named(last, schema)
    owned: FieldSet = {}
    for managed in managers.values():
        owned = fieldset.union(owned, managed.fields)
    everything = named(typed.to_field_set(merged, schema), schema)
    pruned = _remove(merged, last, schema)
    # Back comes what somebody owns …
    kept = fieldset.union(_fields_of(pruned, schema), named(owned, schema))
    pruned = _remove(merged, fieldset.difference(everything, kept), schema)
    # … and what the applier never owned.
    gone = fieldset.difference(everything, _fields_of(pruned, schema))
    pruned = _remove(merged, fieldset.intersection(gone, last), schema)
    if pruned is merged or getattr(schema.extra, "keeps_nulls", False):
        return pruned
    emptied: Obj = _drop_emptied(merged, pruned)
    return emptied


def _fields_of(obj: Obj, schema: TypeSchema) -> FieldSet:
    return fieldset.ensure_named_fields_are_members(typed.to_field_set(obj, schema), schema)


def _remove(obj: Obj, fields: FieldSet, schema: TypeSchema) -> Obj:
    return typed.remove_items(obj, fields, schema) or {} if fields else obj


def _drop_emptied(before: Any, after: Any) -> Any:
    """Without the nulls that pruning left where a container became empty."""
    if before is after or type(after) is not type(before):
        return after
    if type(after) is dict:
        return {
            k: _drop_emptied(before.get(k), v)
            for k, v in after.items()
            if v is not None or before.get(k) is None
        }
    return [typed.drop_nulls(v) for v in after] if type(after) is list else after


def _sync_last_applied(metadata: Obj, applied: Obj) -> None:
    """kubectl's client-side annotation follows a server-side apply by kubectl."""
    annotations = metadata.get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return
    copy = dict(applied)
    applied_metadata = dict(copy.get("metadata") or {})
    if "annotations" in applied_metadata:
        kept = {k: v for k, v in applied_metadata["annotations"].items() if k != LAST_APPLIED}
        applied_metadata["annotations"] = kept
        copy["metadata"] = applied_metadata
    text = json.dumps(copy, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    updated = {**annotations, LAST_APPLIED: text}
    size = sum(len(k.encode()) + len(v.encode()) for k, v in updated.items())
    if size > _ANNOTATION_LIMIT:
        del updated[LAST_APPLIED]
    metadata["annotations"] = updated
