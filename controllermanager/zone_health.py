"""How fast nodes of each zone may be tainted NoExecute (part of the node lifecycle controller).

The pace depends on how many of all nodes are ready. When thousands fall silent at once nobody can
look at all of them for each, so zones are counted a node at a time. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilothouse.apimachinery.object import Obj, condition_of, meta, name_of

EXCLUDE_DISRUPTION = "node.kubernetes.io/exclude-disruption"


@dataclass(frozen=True, slots=True)
class NodeLifecycleConfig:
    monitor_grace_period: float = 50.0
    startup_grace_period: float = 60.0
    eviction_rate: float = 0.1
    secondary_eviction_rate: float = 0.01
    large_cluster_size_threshold: int = 50
    unhealthy_zone_threshold: float = 0.55


@dataclass(frozen=True, slots=True)
class Pace:
    rates: dict[str, float]
    """Nodes a second, by zone. When no node at all is ready it is 0 everywhere: then rather we
    are cut off than everything is down."""
    any_ready: bool
    """Nodes that are excluded from disruption count here, too."""


@dataclass(slots=True)
class _Zone:
    ready: int = 0
    total: int = 0


class ZoneHealth:
    def __init__(self, config: NodeLifecycleConfig) -> None:
        self._config = config
        self._nodes: dict[str, tuple[str | None, bool]] = {}
        """(zone, None for nodes that don't count; whether it is ready)"""
        self._zones: dict[str, _Zone] = {}
        self._ready = 0
        self._pace = Pace({}, False)
        self.not_ready: set[str] = set()

    @property
    def pace(self) -> Pace:
        return self._pace

    def note(self, node: Obj) -> bool:
        """Takes over a node's state; True when the pace of some zone is another one now."""
        excluded = EXCLUDE_DISRUPTION in (meta(node).get("labels") or {})
        entry = (None if excluded else zone_of(node), ready_status(node) == "True")
        name = name_of(node)
        known = self._nodes.get(name)
        if known == entry:
            return False
        if known is not None:
            self._count(*known, -1)
        self._count(*entry, 1)
        self._nodes[name] = entry
        if entry[1]:
            self.not_ready.discard(name)
        else:
            self.not_ready.add(name)
        return self._repace()

    def forget(self, name: str) -> bool:
        known = self._nodes.pop(name, None)
        if known is None:
            return False
        self.not_ready.discard(name)
        self._count(*known, -1)
        return self._repace()

    def _count(self, zone: str | None, ready: bool, by: int) -> None:
        self._ready += by * ready
        if zone is None:
            return
        counts = self._zones.setdefault(zone, _Zone())
        counts.total += by
        counts.ready += by * ready
        if not counts.total:
            del self._zones[zone]

    def _repace(self) -> bool:
        before = self._pace
        zones = self._zones
        if not any(zone.ready for zone in zones.values()):
            rates = dict.fromkeys(zones, 0.0)
        else:
            rates = {name: self._rate(zone) for name, zone in zones.items()}
        self._pace = Pace(rates, self._ready > 0)
        return self._pace != before

    def _rate(self, zone: _Zone) -> float:
        config = self._config
        unhealthy = zone.total - zone.ready
        partial = unhealthy > 2 and unhealthy / zone.total >= config.unhealthy_zone_threshold
        if not zone.ready or not partial:
            return config.eviction_rate
        large = zone.total > config.large_cluster_size_threshold
        return config.secondary_eviction_rate if large else 0.0


def zone_rates(nodes: Iterable[Obj], config: NodeLifecycleConfig) -> dict[str, float]:
    """The rates for these nodes, all at once."""
    zones = ZoneHealth(config)
    for node in nodes:
        zones.note(node)
    return zones.pace.rates


def ready_status(node: Obj) -> str:
    """True, False, Unknown, or "" when it was never reported."""
    condition = condition_of(node, "Ready")
    return condition.get("status", "") if condition is not None else ""


def zone_of(node: Obj) -> str:
    labels = meta(node).get("labels") or {}
    region = labels.get("topology.kubernetes.io/region", "")
    zone = labels.get("topology.kubernetes.io/zone", "")
    return f"{region}:\x00:{zone}" if region or zone else ""
