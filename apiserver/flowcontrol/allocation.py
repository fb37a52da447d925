"""How the server's seats are shared among priority levels (conc_alloc.go, apf_controller.go). Pure.

Nominal limits follow the shares; every ten seconds levels that need less lend to those that
need more, within their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilothouse.apimachinery.object import Obj

ADJUSTMENT_PERIOD = 10.0
MIN_TARGET = 0.001
_EPSILON = 1e-7
_SMOOTHING = 0.977
"""seatDemandSmoothingCoefficient: the envelope falls by half in five minutes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seats of one level: by its share, and the bounds between which it may lend and borrow."""

    nominal: int
    least: int
    most: int


def _go_round(value: float) -> int:
    return int(value + 0.5)


def limits_of(levels: Mapping[str, Obj], server_seats: int) -> dict[str, Limits]:
    """Of the levels' specs by name."""
    commons = {name: _commons(spec) for name, spec in levels.items()}
    total = sum(shares for shares, _, _ in commons.values())
    found = {}
    for name, (shares, lendable, borrowing) in commons.items():
        nominal = ceil(server_seats * shares / total) if total else 0
        lent = _go_round(nominal * lendable / 100)
        borrowed = server_seats if borrowing is None else _go_round(nominal * borrowing / 100)
        found[name] = Limits(nominal, nominal - lent, nominal + borrowed)
    return found


def _commons(spec: Obj) -> tuple[int, int, int | None]:
    exempt = spec.get("type") == "Exempt"
    part = spec.get("exempt" if exempt else "limited") or {}
    default = 0 if exempt else 30
    shares = part.get("nominalConcurrencyShares")
    return (
        default if shares is None else shares,
        part.get("lendablePercent") or 0,
        None if exempt else part.get("borrowingLimitPercent"),
    )


class Demand:
    """How many seats a level wanted: the highest and the average of a period, and a smoothed
    envelope over the periods (seatDemandStats)."""

    __slots__ = (
        "_integral", "_last", "_square", "_start", "_value", "average", "deviation", "high",
        "smoothed",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self._start = self._last = now
        self._integral = self._square = 0.0
        self._value = self.high = 0
        self.smoothed = 0.0
        self.average = self.deviation = 0.0
        """Of the last period."""

    def note(self, seats: int, now: float) -> None:
        spent = now - self._last
        self._integral += self._value * spent
        self._square += self._value * self._value * spent
        self._last = now
        self._value = seats
        self.high = max(self.high, seats)

    def end_period(self, now: float) -> int:
        """Closes the period; its high watermark."""
        self.note(self._value, now)
        seconds = now - self._start
        average = self._integral / seconds if seconds > 0 else float(self._value)
        variance = self._square / seconds - average**2 if seconds > 0 else 0.0
        self.average, self.deviation = average, sqrt(max(variance, 0.0))
        envelope = average + self.deviation
        self.smoothed = max(envelope, _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * envelope)
        high, self.high = self.high, self._value
        self._start = now
        self._integral = self._square = 0.0
        return high


@dataclass(frozen=True, slots=True)
class Wish:
    """One level's problem: what it wants, and what it may have."""

    target: float
    least: float
    most: float


def allocate(total: float, wishes: Sequence[Wish]) -> list[float]:
    """Amounts that sum up to ``total``, each target times the same factor as far as its bounds
    allow (max-min fairness).

    :raises ValueError: the bounds do not admit the sum.
    """
    targets = [max(wish.target, MIN_TARGET) for wish in wishes]
    low, high = sum(w.least for w in wishes), sum(w.most for w in wishes)
    if low - total > _EPSILON:
        raise ValueError(f"lower bounds sum to {low}, which is higher than the required sum")
    if total - high > _EPSILON:
        raise ValueError(f"upper bounds sum to {high}, which is lower than the required sum")
    bounds = sorted(
        {w.least / t for w, t in zip(wishes, targets, strict=True)}
        | {w.most / t for w, t in zip(wishes, targets, strict=True)}
    )

    def amounts(factor: float) -> list[float]:
        return [max(w.least, min(w.most, factor * t)) for w, t in zip(wishes, targets, strict=True)]

    below = 0.0
    for bound in bounds:
        if sum(amounts(bound)) >= total:
            return amounts(_between(below, bound, total, amounts))
        below = bound
    return amounts(below)


def _between(low: float, high: float, total: float, amounts: object) -> float:
    """The sum is linear in the factor between two neighbouring bounds."""
    at_low, at_high = sum(amounts(low)), sum(amounts(high))  # type: ignore[operator]
    if at_high - at_low < _EPSILON:
        return high
    return low + (high - low) * (total - at_low) / (at_high - at_low)


def adjusted(
    limits: Mapping[str, Limits],
    exempt: frozenset[str],
    high: Mapping[str, int],
    smoothed: Mapping[str, float],
) -> dict[str, int]:
    """The current limits of all levels after a period with these demands."""
    total = sum(each.nominal for each in limits.values())
    found = {}
    least: dict[str, int] = {}
    for name, each in limits.items():
        if name in exempt:
            found[name] = max(each.least, high[name])
            total -= found[name]
        else:
            least[name] = max(each.least, min(each.nominal, high[name]))
    floor = sum(limits[name].least for name in least)
    wanted = sum(least.values())
    if total <= floor:
        found |= {name: limits[name].least for name in least}
    elif total <= wanted:
        part = (total - floor) / (wanted - floor)
        found |= {
            name: limits[name].least + _go_round((want - limits[name].least) * part)
            for name, want in least.items()
        }
    else:
        wishes = [
            Wish(max(want, smoothed[name]), want, limits[name].most) for name, want in least.items()
        ]
        amounts = allocate(total, wishes) if wishes else []
        found |= {name: _go_round(a) for name, a in zip(least, amounts, strict=True)}
    return found
