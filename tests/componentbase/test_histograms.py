"""Folding observations into buckets, against counting them one by one."""

from __future__ import annotations

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.componentbase.histograms import FOLD, MAX_BUCKETS, Series

BUCKETS = (0.005, 0.1, 0.5, 1.0, 30.0)
values = st.lists(
    st.one_of(
        st.floats(min_value=1e-6, max_value=100.0),
        st.sampled_from((0.0, *BUCKETS, 2.0**-5, 4.0)),
    ),
    max_size=3 * FOLD,
)


def classic(observed: list[float], buckets: tuple[float, ...]) -> list[int]:
    bounds = (*buckets, float("inf"))
    below = (float("-inf"), *buckets)
    return [sum(a < v <= b for v in observed) for a, b in zip(below, bounds, strict=True)]


@given(values)
def test_folding_counts_every_value_once(observed: list[float]) -> None:
    series = Series(BUCKETS)
    for value in observed:
        series.observe(value)
    assert series.counts == classic(observed, BUCKETS)
    assert series.total == pytest.approx(sum(observed))
    assert series.zero_count == sum(value == 0 for value in observed)
    assert sum(count for _, count in series.native()) == sum(value > 0 for value in observed)


@given(st.lists(st.floats(min_value=1e-4, max_value=1e4), min_size=1, max_size=FOLD))
def test_native_buckets_hold_their_values(observed: list[float]) -> None:
    series = Series(())
    for value in observed:
        series.observe(value)
    width = 2.0**-series.schema
    expected: dict[int, int] = {}
    for value in observed:
        # Rounded: a value that is nearly a bound is tested with exact bounds elsewhere.
        key = ceil(round(log2(value) / width, 9))
        expected[key] = expected.get(key, 0) + 1
    assert dict(series.native()) == expected


def test_too_many_buckets_become_wider() -> None:
    series = Series(())
    bounds = [2.0 ** (i / 8) for i in range(-100, 100)]
    for value in bounds:
        series.observe(value)
    assert series.schema == 2
    assert len(series.native()) <= MAX_BUCKETS
    # Each of the wider buckets ends where every other of the narrow ones did.
    assert series.native() == [(-50, 1), *((i, 2) for i in range(-49, 50)), (50, 1)]
    assert sum(count for _, count in series.native()) == len(bounds)
    series.observe(bounds[0])
    assert series.native()[0][1] == 2


def test_fewer_classic_buckets() -> None:
    series = Series(BUCKETS)
    for value in (0.001, 0.05, 0.3, 0.7, 50.0):
        series.observe(value)
    fewer = series.rebucketed(BUCKETS[1:])
    assert fewer.counts == [2, 1, 1, 0, 1]
    assert fewer.total == series.total
    assert fewer.native() == series.native()
