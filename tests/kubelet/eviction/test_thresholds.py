"""When a node is short of something."""

from __future__ import annotations

import pytest

from pilothouse.kubelet.eviction.thresholds import (
    DEFAULT_HARD,
    Observation,
    Pressure,
    Threshold,
    parse,
)


def test_thresholds_are_amounts_or_shares() -> None:
    assert parse("memory.available<100Mi, nodefs.available<10%") == (
        Threshold("memory.available", amount=100 << 20),
        Threshold("nodefs.available", share=0.1),
    )
    assert len(parse(DEFAULT_HARD)) == 5
    assert parse("nodefs.available<0%,memory.available<0") == ()
    (soft,) = parse("memory.available<1Gi", "memory.available=1m30s")
    assert soft.grace_seconds == 90


@pytest.mark.parametrize("text", ["memory.available=1Gi", "memory<1Gi", "nodefs.available<much"])
def test_what_is_no_threshold(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_condition_outlasts_what_caused_it() -> None:
    pressure = Pressure(parse("memory.available<100,nodefs.available<10%"), transition_seconds=60)
    low = {"memory.available": Observation(99, 1000), "nodefs.available": Observation(100, 1000)}
    (due,) = pressure.look(low, 5.0)
    assert due.signal == "memory.available"
    assert pressure.conditions(5.0) == {"MemoryPressure"}
    fine = {"memory.available": Observation(100, 1000)}
    assert pressure.look(fine, 30.0) == []
    assert pressure.conditions(30.0) == {"MemoryPressure"}
    assert pressure.conditions(66.0) == frozenset()


def test_soft_thresholds_wait() -> None:
    pressure = Pressure(parse("memory.available<100", "memory.available=30s"))
    low, fine = ({"memory.available": Observation(n, 1000)} for n in (1, 500))
    assert pressure.look(low, 0.0) == []
    assert pressure.conditions(0.0) == {"MemoryPressure"}
    assert pressure.look(fine, 20.0) == []
    assert pressure.look(low, 25.0) == []  # counted anew
    assert pressure.look(low, 54.0) == []
    assert len(pressure.look(low, 55.0)) == 1


def test_memory_comes_first() -> None:
    pressure = Pressure(parse("nodefs.available<50%,memory.available<50%"))
    low = {signal: Observation(1, 1000) for signal in ("nodefs.available", "memory.available")}
    assert [t.signal for t in pressure.look(low, 0.0)] == ["memory.available", "nodefs.available"]
