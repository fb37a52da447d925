"""Hints of Services with ``service.kubernetes.io/topology-mode: Auto``: each zone gets a share of
the endpoints like its share of the CPUs (endpointslice/topologycache). Pure.

It remembers what it gave. Without enough zones, endpoints or knowledge of the nodes there are no
hints, and an event says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilothouse.apimachinery.object import Obj, condition_of, copy_object, get_nested, meta
from pilothouse.apimachinery.quantity import Quantity

OVERLOAD = 0.2
"""How much more than its share an endpoint may get."""
ZONE_LABEL = "topology.kubernetes.io/zone"
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_NO_ZONE = "One or more endpoints do not have a zone specified"
_NO_HINTS = "No hints allocated for zones"
_NO_NODE_INFO = (
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
)
_TOO_FEW = "Insufficient number of endpoints"
_TOO_UNEVEN = (
    "Unable to allocate minimum required endpoints to each zone without exceeding overload "
    "threshold"
)
_OFF = "Topology Aware Hints has been disabled"
_ON = "Topology Aware Hints has been enabled"
Event = tuple[str, str, str]
"""(type, reason, message)"""


@dataclass(frozen=True, slots=True)
class Share:
    maximum: int
    desired: float


class NoShares(Exception):
    """Zones can't have shares; the text says why."""


class TopologyHints:
    """``events``: what was noticed, for whoever writes the slices."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}
        self._given: dict[str, dict[str, dict[str, int]]] = {}
        """By service, address type and zone."""
        self.events: list[Event] = []

    def set_nodes(self, nodes: Iterable[Obj]) -> None:
        self._ratios = cpu_ratios(nodes)

    @property
    def in_use(self) -> bool:
        return bool(self._given)

    def overloaded(self) -> list[str]:
        """Services of which a zone has too few endpoints now."""
        return [
            key
            for key, types in self._given.items()
            if any(_is_overloaded(zones, self._ratios) for zones in types.values())
        ]

    def forget(self, key: str) -> None:
        self._given.pop(key, None)

    def leave(self, key: str, address_type: str) -> None:
        """The Service asks for no such hints (any more)."""
        if key in self._given:
            self._say("Warning", "Disabled", _OFF, address_type)
            self._remove(key, address_type)

    def _remove(self, key: str, address_type: str) -> None:
        types = self._given.get(key)
        if types is not None:
            types.pop(address_type, None)
            if not types:
                del self._given[key]

    def _say(self, type_: str, change: str, text: str, address_type: str) -> None:
        message = f"{text}, addressType: {address_type}"
        self.events.append((type_, f"TopologyAwareHints{change}", message))

    def add(
        self, key: str, address_type: str, written: Sequence[Obj], unchanged: Sequence[Obj]
    ) -> list[Obj]:
        """Gives the slices that are written (changed in place) their hints; returns copies of
        unchanged ones that must be written, too."""
        pieces = (*written, *unchanged)
        ready = sum(_is_ready(e) for piece in pieces for e in piece.get("endpoints") or ())
        try:
            shares = shares_of(self._ratios, ready)
        except NoShares as error:
            return self._without(key, address_type, str(error), written, unchanged)
        given: dict[str, int] = {}
        anew: list[Obj] = []
        for piece in unchanged:
            known = _given_by(piece, given, shares)
            if known is None:
                anew.append(copy_object(piece))
                continue
            for zone, count in known.items():
                given[zone] = given.get(zone, 0) + count
        changed = (*written, *anew)
        for endpoint in _endpoints(changed):
            endpoint.pop("hints", None)
            if not _is_ready(endpoint):
                continue
            if not endpoint.get("zone"):
                return self._without(key, address_type, _NO_ZONE, written, unchanged)
            given[endpoint["zone"]] = given.get(endpoint["zone"], 0) + 1
            _hint(endpoint, endpoint["zone"])
        _redistribute(changed, given, shares)
        if not given:
            return self._without(key, address_type, _NO_HINTS, written, unchanged)
        if key not in self._given:
            self._say("Normal", "Enabled", _ON, address_type)
        self._given.setdefault(key, {})[address_type] = given
        return anew

    def _without(
        self,
        key: str,
        address_type: str,
        reason: str,
        written: Sequence[Obj],
        unchanged: Sequence[Obj],
    ) -> list[Obj]:
        self._say("Warning", "Disabled", reason, address_type)
        self._remove(key, address_type)
        hinted = [p for p in unchanged if any("hints" in e for e in _endpoints((p,)))]
        anew = [copy_object(piece) for piece in hinted]
        for endpoint in _endpoints((*written, *anew)):
            endpoint.pop("hints", None)
        return anew


def cpu_ratios(nodes: Iterable[Obj]) -> dict[str, float]:
    """By zone; empty: too little is known, or there is one zone only."""
    by_zone: dict[str, int] = {}
    for node in nodes:
        labels = meta(node).get("labels") or {}
        if any(label in labels for label in _CONTROL_PLANE):
            continue
        if (condition_of(node, "Ready") or {}).get("status") != "True":
            continue
        cpu = Quantity.parse(get_nested(node, "status", "allocatable", "cpu") or "0").milli_value()
        zone = labels.get(ZONE_LABEL)
        if not zone or not cpu:
            return {}
        by_zone[zone] = by_zone.get(zone, 0) + cpu
    total = sum(by_zone.values())
    return {} if len(by_zone) < 2 else {zone: cpu / total for zone, cpu in by_zone.items()}


def shares_of(ratios: dict[str, float], count: int) -> dict[str, Share]:
    """How many of ``count`` endpoints each zone is to get. :raises NoShares:"""
    if not ratios:
        raise NoShares(_NO_NODE_INFO)
    counts = f"({count} endpoints, {len(ratios)} zones)"
    if len(ratios) > count:
        raise NoShares(f"{_TOO_FEW} {counts}")
    desired = {zone: ratio * count for zone, ratio in ratios.items()}
    minimum = {zone: math.ceil(n * (1 / (1 + OVERLOAD))) for zone, n in desired.items()}
    spare = count - sum(minimum.values())
    if spare < 0:
        raise NoShares(f"{_TOO_UNEVEN} {counts}")
    return {z: Share(minimum[z] + spare, max(desired[z], float(minimum[z]))) for z in ratios}


def _endpoints(pieces: Iterable[Obj]) -> Iterable[Obj]:
    return (endpoint for piece in pieces for endpoint in piece.get("endpoints") or ())


def _is_ready(endpoint: Obj) -> bool:
    return bool((endpoint.get("conditions") or {}).get("ready"))


def _hint(endpoint: Obj, zone: str) -> None:
    endpoint["hints"] = {"forZones": [{"name": zone}]}


def _given_by(piece: Obj, given: dict[str, int], shares: dict[str, Share]) -> dict[str, int] | None:
    """The hints of a slice by zone; None: they can't stay."""
    counts: dict[str, int] = {}
    for endpoint in filter(_is_ready, _endpoints((piece,))):
        zones = [z["name"] for z in (endpoint.get("hints") or {}).get("forZones") or ()]
        if not zones or any(zone not in shares for zone in zones):
            return None
        for zone in zones:
            counts[zone] = counts.get(zone, 0) + 1
    for zone, count in counts.items():
        if count + given.get(zone, 0) > shares[zone].maximum:
            return None
    return counts


def _redistribute(pieces: Sequence[Obj], given: dict[str, int], shares: dict[str, Share]) -> None:
    """Zones with more endpoints than they need give some to those with fewer."""
    giving, receiving = transfers(given, shares)
    for endpoint in filter(_is_ready, _endpoints(pieces)):
        zone = endpoint["zone"]
        target = next((z for z in sorted(receiving) if receiving[z]), None)
        if target is None:
            return
        if not giving.get(zone):
            continue
        _hint(endpoint, target)
        giving[zone] -= 1
        receiving[target] -= 1
        given[zone] -= 1
        given[target] = given.get(target, 0) + 1


def transfers(
    given: dict[str, int], shares: dict[str, Share]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many endpoints each zone should give away, and get."""
    over = {z: given.get(z, 0) - s.desired for z, s in shares.items()}
    surplus = {z: n for z, n in over.items() if n > 0}
    lack = {z: -n for z, n in over.items() if n < 0}
    giving: dict[str, int] = {}
    receiving: dict[str, int] = {}
    while surplus and lack:
        giver = max(sorted(surplus), key=lambda z: surplus[z])
        receiver = max(sorted(lack), key=lambda z: lack[z])
        some, need = surplus[giver], lack[receiver]
        if (some < 1.0 and need < 1.0) or some < 0.5 or need < 0.5:
            break
        giving[giver] = giving.get(giver, 0) + 1
        receiving[receiver] = receiving.get(receiver, 0) + 1
        surplus[giver] -= 1
        lack[receiver] -= 1
    return giving, receiving


def _is_overloaded(given: dict[str, int], ratios: dict[str, float]) -> bool:
    if not given:
        return False
    if not ratios:
        return True
    total = sum(given.values())
    return any(
        zone not in given or given[zone] < math.ceil(total * ratio * (1 / (1 + OVERLOAD)))
        for zone, ratio in ratios.items()
    )
