"""When a node is short of something (pure; pkg/kubelet/eviction/helpers.go).

``memory.available<100Mi,nodefs.available<10%``: what is observed (``Observation``) against what
must be left. A threshold that is met makes a node condition true, for a while longer than it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.timefmt import parse_duration

DEFAULT_HARD = (
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,"
    "imagefs.available<15%,imagefs.inodesFree<5%"
)
CONDITIONS = {
    "memory.available": "MemoryPressure",
    "nodefs.available": "DiskPressure",
    "nodefs.inodesFree": "DiskPressure",
    "imagefs.available": "DiskPressure",
    "imagefs.inodesFree": "DiskPressure",
    "pid.available": "PIDPressure",
}
RESOURCES = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.available": "ephemeral-storage",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """``share`` of the capacity (0…1) or ``amount`` must be left of what ``signal`` names."""

    signal: str
    amount: int = 0
    share: float = 0.0
    grace_seconds: float = 0.0
    """How long it must be met before pods go; 0: a hard one."""

    def limit(self, capacity: int) -> int:
        return int(capacity * self.share) if self.share else self.amount


@dataclass(frozen=True, slots=True)
class Observation:
    available: int
    capacity: int


@dataclass(slots=True)
class Pressure:
    """What a manager remembers between two looks."""

    thresholds: tuple[Threshold, ...]
    transition_seconds: float = 300.0
    first_met: dict[Threshold, float] = field(default_factory=dict)
    last_condition: dict[str, float] = field(default_factory=dict)

    def look(self, observed: Mapping[str, Observation], now: float) -> list[Threshold]:
        """The thresholds for which pods must go now, memory before the others."""
        met = [t for t in self.thresholds if is_met(t, observed)]
        self.first_met = {t: self.first_met.get(t, now) for t in met}
        for threshold in met:
            self.last_condition[CONDITIONS[threshold.signal]] = now
        due = [t for t in met if now - self.first_met[t] >= t.grace_seconds]
        return sorted(due, key=lambda t: t.signal != "memory.available")

    def conditions(self, now: float) -> frozenset[str]:
        """Node conditions that are true: met now or shortly before."""
        return frozenset(
            name
            for name, seen in self.last_condition.items()
            if now - seen < self.transition_seconds or seen == now
        )


def is_met(threshold: Threshold, observed: Mapping[str, Observation]) -> bool:
    seen = observed.get(threshold.signal)
    return seen is not None and seen.available < threshold.limit(seen.capacity)


def parse(text: str, grace_periods: str = "") -> tuple[Threshold, ...]:
    """``signal<amount|percent,…``; with grace periods (``signal=1m30s,…``) they are soft.

    :raises ValueError: with upstream's words.
    """
    graces = dict(_pairs(grace_periods, "=")) if grace_periods else {}
    found = []
    for signal, value in _pairs(text, "<"):
        if signal not in CONDITIONS:
            raise ValueError(f"unsupported eviction signal {signal}")
        grace = _seconds(graces[signal]) if signal in graces else 0.0
        if value.endswith("%"):
            share = float(value[:-1]) / 100
            if share <= 0:
                continue  # "0%": this signal isn't looked at
            found.append(Threshold(signal, share=share, grace_seconds=grace))
        elif Quantity.parse(value).value() > 0:
            amount = Quantity.parse(value).value()
            found.append(Threshold(signal, amount=amount, grace_seconds=grace))
    return tuple(found)


def _pairs(text: str, operator: str) -> Iterable[tuple[str, str]]:
    for part in filter(None, (p.strip() for p in text.split(","))):
        signal, found, value = part.partition(operator)
        if not found:
            raise ValueError(f"invalid eviction threshold syntax {part!r}")
        yield signal, value


def _seconds(text: str) -> float:
    return parse_duration(text)
