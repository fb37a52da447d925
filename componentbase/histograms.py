"""Series of histograms, classic and native (Prometheus' sparse buckets) from one observation.

Observing appends to a list; every :data:`FOLD` observations, and whenever somebody asks, the
sorted list is folded into both kinds of buckets. Sorting makes a bucket cost a bisection instead
of an observation costing two. The native schema is upstream's: a bucket is at most 10 % wider than
the one below it, and past 160 buckets each two become one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import frexp, ldexp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLD = 128
"""How many observations wait at most; a trade of memory (32 bytes each) for speed."""
SCHEMA = 3
"""2**3 buckets an octave: the coarsest that grows by less than the factor 1.1."""
MAX_BUCKETS = 160
ZERO_THRESHOLD = 2.0**-128
_FRACTIONS = tuple(2.0 ** (i / 2**SCHEMA - 1) for i in range(2**SCHEMA))
"""Upper bounds within [0.5, 1), where ``frexp`` puts the fraction."""


class Series:
    """One histogram series. Values are durations, sizes, numbers of things: never negative."""

    __slots__ = ("_counts", "_native", "_shift", "_total", "_zero", "buckets", "pending")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = tuple(buckets)
        self.pending: list[float] = []
        """Observed, not yet folded. Hot paths append here and call ``fold`` at ``FOLD``."""
        self._counts = [0] * (len(self.buckets) + 1)
        self._total = 0.0
        self._native: dict[int, int] = {}
        self._zero = 0
        self._shift = 0
        """How often native buckets were merged by two."""

    def observe(self, value: float) -> None:
        pending = self.pending
        pending.append(value)
        if len(pending) >= FOLD:
            self.fold()

    def fold(self) -> None:
        values = self.pending
        if not values:
            return
        values.sort()
        self._total += sum(values)
        self._fold_classic(values)
        self._fold_native(values)
        values.clear()

    def _fold_classic(self, values: list[float]) -> None:
        buckets, counts = self.buckets, self._counts
        size, seen = len(values), 0
        while seen < size:
            index = bisect_left(buckets, values[seen])
            if index == len(buckets):
                counts[index] += size - seen
                return
            until = bisect_right(values, buckets[index], seen)
            counts[index] += until - seen
            seen = until

    def _fold_native(self, values: list[float]) -> None:
        native, shift = self._native, self._shift
        size = len(values)
        seen = bisect_right(values, ZERO_THRESHOLD)
        self._zero += seen
        while seen < size:
            fraction, exponent = frexp(values[seen])
            place = bisect_left(_FRACTIONS, fraction)
            if place == len(_FRACTIONS):
                bound = ldexp(1.0, exponent)
            else:
                bound = ldexp(_FRACTIONS[place], exponent)
            key = -(-(place + (exponent - 1) * len(_FRACTIONS)) >> shift)
            until = bisect_right(values, bound, seen)
            native[key] = native.get(key, 0) + until - seen
            seen = until
        while len(self._native) > MAX_BUCKETS:
            self._widen()

    def _widen(self) -> None:
        wider: dict[int, int] = {}
        for key, count in self._native.items():
            key = -(-key >> 1)
            wider[key] = wider.get(key, 0) + count
        self._native = wider
        self._shift += 1

    # what has been observed

    @property
    def counts(self) -> list[int]:
        """By classic bucket; the last is +Inf."""
        self.fold()
        return self._counts

    @property
    def total(self) -> float:
        self.fold()
        return self._total

    @property
    def zero_count(self) -> int:
        self.fold()
        return self._zero

    @property
    def schema(self) -> int:
        self.fold()
        return SCHEMA - self._shift

    def native(self) -> list[tuple[int, int]]:
        """(index, count) in order; the bucket i ends at 2 ** (i * 2 ** -schema)."""
        self.fold()
        return sorted(self._native.items())

    def copy(self) -> Series:
        return self.rebucketed(self.buckets)

    def add(self, other: Series) -> None:
        """Takes in what another series with the same classic buckets has observed."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self._total += other._total
        self._zero += other._zero
        native, shift = dict(other._native), other._shift
        while self._shift < shift:
            self._widen()
        for key, count in native.items():
            key = -(-key >> (self._shift - shift))
            self._native[key] = self._native.get(key, 0) + count
        while len(self._native) > MAX_BUCKETS:
            self._widen()

    def observe_many(self, value: float, count: int) -> None:
        """As if ``value`` had been observed so many times."""
        if count <= 0:
            return
        known = Series(self.buckets)
        known.observe(value)
        self._counts[known.counts.index(1)] += count
        self._total += value * count
        if known._zero:
            self._zero += count
            return
        [(key, _)] = known._native.items()
        key = -(-key >> self._shift)
        self._native[key] = self._native.get(key, 0) + count

    def rebucketed(self, buckets: Sequence[float]) -> Series:
        """The same observations under some of the classic buckets.

        :param buckets: a subset of this series' buckets.
        """
        made = Series(buckets)
        for bound, count in self._bounded():
            made._counts[bisect_left(made.buckets, bound)] += count
        made._total = self._total
        made._native, made._shift, made._zero = dict(self._native), self._shift, self._zero
        return made

    def _bounded(self) -> Iterator[tuple[float, int]]:
        return zip((*self.buckets, float("inf")), self.counts, strict=True)
