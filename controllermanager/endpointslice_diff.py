"""Which EndpointSlices to write so that they hold the wanted endpoints (endpointslice
reconciler). Pure; used for Services and for mirrored Endpoints.

Few writes matter more than full slices: a slice is only rewritten when one of its endpoints
changes or goes, or when new ones must be put somewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj, copy_object, name_of

PortKey = tuple[tuple[tuple[str, Any], ...], ...]
Endpoints = dict[tuple[Any, ...], Obj]


@dataclass(slots=True)
class Changes:
    create: list[Obj] = field(default_factory=list)
    update: list[Obj] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)


def port_key(ports: Iterable[Obj]) -> PortKey:
    """The same for the same set of ports."""
    return tuple(sorted((tuple(sorted(port.items())) for port in ports), key=repr))


def endpoint_key(endpoint: Obj) -> tuple[Any, ...]:
    """Which endpoint this is; conditions and topology may change without it becoming another."""
    reference = endpoint.get("targetRef") or {}
    return (
        tuple(sorted(endpoint.get("addresses") or ())),
        endpoint.get("hostname") or "",
        reference.get("namespace") or "",
        reference.get("name") or "",
    )


def diff(
    existing: Sequence[Obj],
    wanted: Mapping[PortKey, tuple[list[Obj], Endpoints]],
    template: Obj,
    labels: Mapping[str, str],
    maximum: int,
) -> Changes:
    """``existing``: the owner's slices of one address type. ``wanted``: ports and endpoints by
    port key. ``template``: an empty slice; every written slice gets ``labels``."""
    changes = Changes()
    by_ports: dict[PortKey, list[Obj]] = {}
    for piece in existing:
        by_ports.setdefault(port_key(piece.get("ports") or ()), []).append(piece)
    for key, (ports, endpoints) in wanted.items():
        fresh = {**template, "ports": ports}
        _diff_ports(by_ports.pop(key, []), dict(endpoints), fresh, labels, maximum, changes)
    for left in by_ports.values():
        changes.delete += left
    if not changes.create and len(changes.delete) == len(existing):
        _keep_placeholder(existing, template, labels, changes)
    _reuse_deleted(changes)
    return changes


def _diff_ports(
    existing: Sequence[Obj],
    endpoints: Endpoints,
    template: Obj,
    labels: Mapping[str, str],
    maximum: int,
    changes: Changes,
) -> None:
    unchanged: list[Obj] = []
    updated: list[Obj] = []
    for piece in existing:
        kept, differs = [], False
        for endpoint in piece.get("endpoints") or ():
            now = endpoints.pop(endpoint_key(endpoint), None)
            if now is None:
                differs = True
                continue
            kept.append(now)
            differs = differs or now != endpoint
        if differs and not kept:
            changes.delete.append(piece)
        elif differs or (piece["metadata"].get("labels") or {}) != labels:
            updated.append(_rewritten(piece, kept, labels))
        else:
            unchanged.append(piece)
    # What is rewritten anyway takes the new endpoints, fullest first.
    for piece in sorted(updated, key=lambda s: -len(s["endpoints"])):
        _fill(piece, endpoints, maximum)
    while endpoints:
        target = _closest_fit(unchanged, len(endpoints), maximum)
        if target is None:
            new = copy_object({**template, "endpoints": []})
            new["metadata"]["labels"] = dict(labels)
            changes.create.append(new)
            _fill(new, endpoints, maximum)
        else:
            unchanged.remove(target)
            rewritten = _rewritten(target, target.get("endpoints") or [], labels)
            updated.append(rewritten)
            _fill(rewritten, endpoints, maximum)
    changes.update += updated


def _rewritten(piece: Obj, endpoints: list[Obj], labels: Mapping[str, str]) -> Obj:
    new: Obj = copy_object({**piece, "endpoints": endpoints})
    new["metadata"]["labels"] = dict(labels)
    return new


def _fill(piece: Obj, endpoints: Endpoints, maximum: int) -> None:
    while endpoints and len(piece["endpoints"]) < maximum:
        key = next(iter(endpoints))
        piece["endpoints"].append(endpoints.pop(key))


def _closest_fit(pieces: Sequence[Obj], count: int, maximum: int) -> Obj | None:
    """The slice that ``count`` more endpoints fill best without spilling over."""
    if count >= maximum:
        return None
    fitting = [p for p in pieces if len(p.get("endpoints") or ()) + count <= maximum]
    return max(fitting, key=lambda p: len(p.get("endpoints") or ()), default=None)


def _keep_placeholder(
    existing: Sequence[Obj], template: Obj, labels: Mapping[str, str], changes: Changes
) -> None:
    """An owner without endpoints has one empty slice."""
    if len(existing) == 1 and not existing[0].get("endpoints") and not existing[0].get("ports"):
        if (existing[0]["metadata"].get("labels") or {}) == labels:
            changes.delete.clear()
            return
    new = copy_object({**template, "ports": [], "endpoints": []})
    new["metadata"]["labels"] = dict(labels)
    changes.create.append(new)


def _reuse_deleted(changes: Changes) -> None:
    """An update of a slice that would go is cheaper for watchers than a delete and a create."""
    while changes.create and changes.delete:
        old, new = changes.delete.pop(0), changes.create.pop()
        new["metadata"] = copy_object(old["metadata"]) | new["metadata"] | {"name": name_of(old)}
        changes.update.append(new)
