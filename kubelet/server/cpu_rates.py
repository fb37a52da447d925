"""Cores in use, from counters of CPU time that are read when somebody asks for a summary.

The kubelet of upstream samples all the time; here a rate is that between two readings, and at the
first one that since the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST_SECONDS = 1.0
"""Readings that are closer get the rate of the one before: there is too little between them."""


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    used: int
    rate: int


class CPURates:
    """``key`` names a counter (a container's id); times are seconds of one clock, as ``since``."""

    def __init__(self) -> None:
        self._last: dict[str, _Reading] = {}

    def rate(self, key: str, at: float, used: int, since: float) -> int:
        """Nanocores. ``used``: nanoseconds of CPU since ``since``."""
        last = self._last.get(key)
        if last is not None and at - last.at < SHORTEST_SECONDS:
            return last.rate
        begin, before = (since, 0) if last is None or used < last.used else (last.at, last.used)
        rate = int((used - before) / max(at - begin, SHORTEST_SECONDS))
        self._last[key] = _Reading(at, used, rate)
        return rate

    def keep(self, keys: Iterable[str]) -> None:
        """Forgets all others: they have ended."""
        wanted = set(keys)
        for key in self._last.keys() - wanted:
            del self._last[key]
