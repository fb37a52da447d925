"""Nominal limits, and what levels lend to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.flowcontrol.allocation import (
    Demand,
    Limits,
    Wish,
    adjusted,
    allocate,
    limits_of,
)
from pilothouse.apiserver.flowcontrol.bootstrap_objects import PRIORITY_LEVELS
from pilothouse.apiserver.flowcontrol.work_estimator import (
    list_seats,
    max_seats,
    watch_begins_with_a_list,
)


def test_limits_of_a_default_server() -> None:
    """The numbers that kube-apiserver v1.37 shows for 600 seats."""
    limits = limits_of(PRIORITY_LEVELS, 600)
    assert limits["workload-low"] == Limits(245, 24, 845)
    assert limits["system"] == Limits(74, 50, 674)
    assert limits["catch-all"] == Limits(13, 13, 613)
    assert limits["exempt"] == Limits(0, 0, 600)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)),
        min_size=1,
        max_size=8,
    ),
    st.floats(0, 1),
)
def test_amounts_sum_up_and_keep_the_bounds(
    parts: list[tuple[int, int, int]], where: float
) -> None:
    wishes = [Wish(low + want, low, low + want + more) for low, want, more in parts]
    low, high = sum(w.least for w in wishes), sum(w.most for w in wishes)
    total = low + (high - low) * where
    amounts = allocate(total, wishes)
    assert sum(amounts) == pytest.approx(total, abs=1e-3)
    for amount, wish in zip(amounts, wishes, strict=True):
        assert wish.least - 1e-6 <= amount <= wish.most + 1e-6


def test_impossible_sums() -> None:
    with pytest.raises(ValueError, match="lower bounds"):
        allocate(1, [Wish(5, 5, 9)])
    with pytest.raises(ValueError, match="upper bounds"):
        allocate(10, [Wish(5, 5, 9)])


def test_idle_levels_lend_to_busy_ones() -> None:
    limits = limits_of(PRIORITY_LEVELS, 600)
    high = dict.fromkeys(limits, 0) | {"global-default": 300}
    smoothed: dict[str, float] = dict.fromkeys(limits, 0.0) | {"global-default": 300.0}
    current = adjusted(limits, frozenset(["exempt"]), high, smoothed)
    assert current["global-default"] > 250
    assert current["workload-low"] >= limits["workload-low"].least
    assert current["system"] >= limits["system"].least
    assert abs(sum(current.values()) - sum(each.nominal for each in limits.values())) <= 4


def test_demand_is_weighted_by_time() -> None:
    demand = Demand(0.0)
    demand.note(10, 0.0)
    demand.note(0, 5.0)
    assert demand.end_period(10.0) == 10
    assert demand.smoothed == pytest.approx(10.0)
    assert demand.end_period(20.0) == 0
    assert 9 < demand.smoothed < 10


def test_seats_of_lists() -> None:
    assert list_seats(5000, 2000, {}, single=False) == 10
    assert list_seats(5000, 2000, {"limit": ["100"]}, single=False) == 2
    assert list_seats(5000, 2000, {}, single=True) == 1
    assert list_seats(3, 100, {}, single=False) == 1
    assert max_seats(245, 6) == 37 and max_seats(3, 6) == 1
    assert watch_begins_with_a_list({"sendInitialEvents": ["true"], "resourceVersion": ["5"]})
    assert watch_begins_with_a_list({}) and not watch_begins_with_a_list({"resourceVersion": ["5"]})
