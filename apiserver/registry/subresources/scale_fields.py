"""managedFields of a workload as those of its Scale, and back (apimachinery pkg/util/managedfields
scalehandler.go). Pure; ``scale.py`` calls these around an apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_REPLICAS = "f:replicas"
_VERSION = "autoscaling/v1"


def _owns(entry: Obj) -> bool:
    spec = (entry.get("fieldsV1") or {}).get("f:spec")
    return isinstance(spec, dict) and _REPLICAS in spec


def managers_of_scale(entries: list[Obj]) -> list[Obj]:
    """Of those who manage the replicas, in the Scale's version."""
    fields: Obj = {"f:spec": {_REPLICAS: {}}}
    return [{**e, "apiVersion": _VERSION, "fieldsV1": fields} for e in entries if _owns(e)]


def _name(entry: Obj) -> tuple[Any, ...]:
    return tuple(entry.get(key) or "" for key in ("manager", "operation", "subresource"))


def take_over(parent: list[Obj], scale: list[Obj], api_version: str) -> list[Obj]:
    """The workload's entries once ``scale`` says who manages the replicas."""
    owners = {_name(entry) for entry in scale if _owns(entry)}
    found: list[Obj] = []
    for entry in parent:
        if not _owns(entry) or _name(entry) in owners:
            owners.discard(_name(entry))
            found.append(entry)
            continue
        fields = {**entry["fieldsV1"], "f:spec": dict(entry["fieldsV1"]["f:spec"])}
        del fields["f:spec"][_REPLICAS]
        if not fields["f:spec"]:
            del fields["f:spec"]
        if fields:
            found.append({**entry, "fieldsV1": fields})
    for manager, operation, subresource in sorted(owners):
        made: Obj = {"manager": manager, "operation": operation, "apiVersion": api_version}
        made |= {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {_REPLICAS: {}}}}
        found.append({**made, "subresource": subresource} if subresource else made)
    return found
