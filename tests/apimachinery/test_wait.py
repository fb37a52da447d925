"""Back-off arithmetic."""

from __future__ import annotations

import random

from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apimachinery.wait import (
    Backoff,
    ExponentialBackoff,
    default_backoff,
    default_retry,
    jitter,
)


def test_backoff_grows_to_the_cap() -> None:
    backoff = Backoff(1.0, factor=2.0, steps=10, cap=5.0)
    assert [backoff.step() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.steps == 0


def test_backoff_stops_growing_after_its_steps() -> None:
    backoff = Backoff(1.0, factor=3.0, steps=2)
    assert [backoff.step() for _ in range(4)] == [1.0, 3.0, 9.0, 9.0]


def test_jitter_adds_up_to_its_part() -> None:
    source = random.Random(1)
    for _ in range(50):
        assert 10.0 <= jitter(10.0, 0.5, source) <= 15.0
        assert 10.0 <= Backoff(10.0, jitter=0.1, random=source).step() <= 11.0


def test_delays_stand_between_attempts() -> None:
    assert len(list(default_retry(random.Random(1)).delays())) == 4
    delays = list(default_backoff(random.Random(1)).delays())
    assert len(delays) == 3
    assert delays == sorted(delays)


def test_exponential_backoff_per_key() -> None:
    clock = FakeClock()
    backoff = ExponentialBackoff(clock, 1.0, 5.0)
    assert backoff.get("a") == 0
    assert [backoff.next("a") for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert backoff.next("b") == 1.0
    assert backoff.is_in_backoff_since_update("a")
    clock.advance(5)
    assert not backoff.is_in_backoff_since_update("a")
    assert backoff.next("a") == 5.0
    clock.advance(10.5)
    # Quiet for more than twice the maximum: from the start.
    assert backoff.next("a") == 1.0
    backoff.reset("a")
    assert backoff.get("a") == 0


def test_backoff_since_an_event() -> None:
    clock = FakeClock()
    backoff = ExponentialBackoff(clock, 10.0, 60.0)
    event = clock.time()
    assert not backoff.is_in_backoff_since("a", event)
    backoff.next("a", event)
    clock.advance(9)
    assert backoff.is_in_backoff_since("a", event)
    clock.advance(1)
    assert not backoff.is_in_backoff_since("a", event)


def test_expired_keys_are_collected() -> None:
    clock = FakeClock()
    backoff = ExponentialBackoff(clock, 1.0, 5.0, max_jitter_factor=0.5, random=random.Random(1))
    backoff.next("a")
    assert 1.0 <= backoff.get("a") <= 1.5
    clock.advance(6)
    backoff.next("b")
    clock.advance(5)
    backoff.collect_garbage()
    assert len(backoff) == 1
