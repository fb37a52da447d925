"""Which devices ResourceSlices offer to one node. Pure.

Only a pool's newest generation counts, and only when all of its slices are there. Devices that
must be attached first (binding conditions) come last, so that others are preferred.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj, get_nested, name_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.scheduler.framework.node_selector import NodeSelector

Key = tuple[str, str, str]
"""(driver, pool, device)"""
PoolKey = tuple[str, str]
"""(driver, pool)"""
Counter = tuple[str, str, str, str]
"""(driver, pool, counter set, counter)"""


@dataclass(frozen=True, slots=True)
class Device:
    driver: str
    pool: str
    name: str
    raw: Obj
    slice: Obj
    taints: tuple[Obj, ...] = ()

    @property
    def key(self) -> Key:
        return (self.driver, self.pool, self.name)

    @property
    def shared(self) -> bool:
        """Whether several claims may have a part of it."""
        return bool(self.raw.get("allowMultipleAllocations"))

    def attribute(self, name: str) -> Any:
        """Its value by qualified name, with its type; None when it has none."""
        attributes = self.raw.get("attributes") or {}
        domain, _, short = name.rpartition("/")
        value = attributes.get(name)
        if value is None and domain == self.driver:
            value = attributes.get(short)
        return None if value is None else next(iter(value.items()))


@dataclass(slots=True)
class Pools:
    devices: list[Device] = field(default_factory=list)
    """Of complete pools, that can be used on the node."""
    incomplete: set[PoolKey] = field(default_factory=set)
    invalid: set[PoolKey] = field(default_factory=set)
    """Pools that contradict themselves: nothing is given out of them."""
    counters: dict[Counter, int] = field(default_factory=dict)
    """In thousandths, as the pools publish them."""
    consumers: dict[Key, Obj] = field(default_factory=dict)
    """Devices that draw on counters, wherever they can be used."""


def gather(
    slices: Iterable[Obj], node_name: str, labels: Mapping[str, str], rules: Iterable[Obj] = ()
) -> Pools:
    by_pool: dict[PoolKey, list[Obj]] = {}
    for piece in slices:
        spec = piece["spec"]
        by_pool.setdefault((spec["driver"], spec["pool"]["name"]), []).append(piece)
    pools, rules = Pools(), list(rules)
    last: list[Device] = []
    for key, pieces in sorted(by_pool.items()):
        newest = max(p["spec"]["pool"].get("generation") or 0 for p in pieces)
        current = [p for p in pieces if (p["spec"]["pool"].get("generation") or 0) == newest]
        usable = [p for p in current if _offers(p["spec"], node_name, labels)]
        if not usable:
            continue
        if len(current) != current[0]["spec"]["pool"].get("resourceSliceCount"):
            pools.incomplete.add(key)
        elif not _consistent(current, usable):
            pools.invalid.add(key)
        else:
            _count(pools, key, current)
            devices = [
                device
                for piece in sorted(usable, key=name_of)
                for device in _devices(piece, node_name, labels, rules)
            ]
            waits = any(d.raw.get("bindingConditions") for d in devices)
            (last if waits else pools.devices).extend(devices)
    pools.devices += last
    return pools


def _consistent(pieces: Iterable[Obj], usable: Iterable[Obj]) -> bool:
    """No name twice, and no counter drawn on that isn't there."""
    names = [d["name"] for p in usable for d in p["spec"].get("devices") or ()]
    sets = [s for p in pieces for s in p["spec"].get("sharedCounters") or ()]
    counters = {s["name"]: set(s.get("counters") or ()) for s in sets}
    if len(set(names)) < len(names) or len(counters) < len(sets):
        return False
    uses = [
        use
        for piece in pieces
        for device in piece["spec"].get("devices") or ()
        for use in device.get("consumesCounters") or ()
    ]
    return all(
        use["counterSet"] in counters
        and set(use.get("counters") or ()) <= counters[use["counterSet"]]
        for use in uses
    )


def _count(pools: Pools, key: PoolKey, pieces: Iterable[Obj]) -> None:
    for piece in pieces:
        for counter_set in piece["spec"].get("sharedCounters") or ():
            for name, counter in (counter_set.get("counters") or {}).items():
                amount = Quantity.parse(counter["value"]).milli_value()
                pools.counters[*key, counter_set["name"], name] = amount
        for raw in piece["spec"].get("devices") or ():
            if raw.get("consumesCounters"):
                pools.consumers[*key, raw["name"]] = raw


def consumption(key: Key, raw: Obj) -> Iterator[tuple[Counter, int]]:
    """What a device draws from the counters of its pool."""
    for use in raw.get("consumesCounters") or ():
        for name, counter in (use.get("counters") or {}).items():
            amount = Quantity.parse(counter["value"]).milli_value()
            yield (key[0], key[1], use["counterSet"], name), amount


def _devices(
    piece: Obj, node_name: str, labels: Mapping[str, str], rules: Sequence[Obj]
) -> Iterator[Device]:
    spec = piece["spec"]
    for raw in spec.get("devices") or ():
        if spec.get("perDeviceNodeSelection") and not _is_for_node(raw, node_name, labels):
            continue
        key = {"driver": spec["driver"], "pool": spec["pool"]["name"], "device": raw["name"]}
        added = [r["spec"]["taint"] for r in rules if _rule_means(r, key)]
        yield Device(
            spec["driver"], spec["pool"]["name"], raw["name"], raw, piece,
            (*(raw.get("taints") or ()), *added),
        )  # fmt: skip


def _offers(spec: Obj, node_name: str, labels: Mapping[str, str]) -> bool:
    """Whether a slice has something for the node."""
    if spec.get("perDeviceNodeSelection"):
        return any(_is_for_node(d, node_name, labels) for d in spec.get("devices") or ())
    return _is_for_node(spec, node_name, labels)


def _is_for_node(place: Obj, node_name: str, labels: Mapping[str, str]) -> bool:
    if place.get("nodeName"):
        return bool(place["nodeName"] == node_name)
    if place.get("allNodes"):
        return True
    selector = place.get("nodeSelector")
    if selector is None:
        return False
    return NodeSelector({}, selector.get("nodeSelectorTerms") or []).matches(node_name, labels)


def _rule_means(rule: Obj, key: Obj) -> bool:
    selector = get_nested(rule, "spec", "deviceSelector")
    return selector is not None and all(
        selector.get(part) in (None, "", value) for part, value in key.items()
    )
