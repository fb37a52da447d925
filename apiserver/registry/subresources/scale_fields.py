"""managedFields of a workload as those of its Scale, and back (apimachinery pkg/util/managedfields
scalehandler.go). Pure; ``scale.py`` calls these around an apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_VERSION = "autoscaling/v1"


Path = tuple[str, ...]
REPLICAS: Path = ("spec", "replicas")


def _owns(entry: Obj, path: Path = REPLICAS) -> bool:
    at = entry.get("fieldsV1") or {}
    for name in path:
        at = at.get(f"f:{name}") if isinstance(at, dict) else None
    return at is not None


def _fields(path: Path) -> Obj:
    found: Obj = {}
    for name in reversed(path):
        found = {f"f:{name}": found}
    return found


def _without(fields: Obj, path: Path) -> Obj:
    """A copy that says nothing of ``path``, nor of what only led to it."""
    name, rest = f"f:{path[0]}", path[1:]
    left = {key: value for key, value in fields.items() if key != name}
    below = _without(fields[name], rest) if rest else {}
    return {**left, name: below} if below else left


def managers_of_scale(entries: list[Obj], path: Path = REPLICAS) -> list[Obj]:
    """Of those who manage the replicas, in the Scale's version."""
    fields = _fields(REPLICAS)
    return [{**e, "apiVersion": _VERSION, "fieldsV1": fields} for e in entries if _owns(e, path)]


def _name(entry: Obj) -> tuple[Any, ...]:
    return tuple(entry.get(key) or "" for key in ("manager", "operation", "subresource"))


def take_over(
    parent: list[Obj], scale: list[Obj], api_version: str, path: Path = REPLICAS
) -> list[Obj]:
    """The workload's entries once ``scale`` says who manages the replicas, which are at ``path``.
    Who is new has no time, as with upstream."""
    owners = {_name(entry) for entry in scale if _owns(entry)}
    found: list[Obj] = []
    for entry in parent:
        if not _owns(entry, path) or _name(entry) in owners:
            owners.discard(_name(entry))
            found.append(entry)
            continue
        fields = _without(entry["fieldsV1"], path)
        if fields:
            found.append({**entry, "fieldsV1": fields})
    for manager, operation, subresource in sorted(owners):
        made: Obj = {"manager": manager, "operation": operation, "apiVersion": api_version}
        made |= {"fieldsType": "FieldsV1", "fieldsV1": _fields(path)}
        found.append({**made, "subresource": subresource} if subresource else made)
    return found
