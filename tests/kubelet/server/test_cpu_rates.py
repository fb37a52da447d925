"""Rates of CPU time between two readings."""

from __future__ import annotations

from pilothouse.kubelet.server.cpu_rates import CPURates

SECOND = 10**9


def test_the_first_rate_is_that_since_the_start() -> None:
    rates = CPURates()
    assert rates.rate("a", at=110.0, used=5 * SECOND, since=100.0) == SECOND // 2
    assert rates.rate("new", at=110.0, used=SECOND // 10, since=110.0) == SECOND // 10


def test_then_it_is_between_readings_that_are_far_enough_apart() -> None:
    rates = CPURates()
    rates.rate("a", 110.0, 0, 100.0)
    assert rates.rate("a", 110.5, SECOND // 4, 100.0) == 0
    assert rates.rate("a", 112.0, SECOND, 100.0) == SECOND // 2
    assert rates.rate("a", 114.0, SECOND, 100.0) == 0


def test_a_counter_that_began_anew_and_what_has_ended() -> None:
    rates = CPURates()
    rates.rate("a", 110.0, 8 * SECOND, 100.0)
    assert rates.rate("a", 120.0, SECOND, 118.0) == SECOND // 2
    rates.keep([])
    assert rates.rate("a", 120.5, SECOND, 120.0) == SECOND
