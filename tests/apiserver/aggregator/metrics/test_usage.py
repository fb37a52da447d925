"""Usage from summaries: rates between samples, averages of young containers, given rates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.aggregator.metrics.usage import (
    ContainerKey,
    Usage,
    Window,
    parse_summary,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ContainerKey("default", "web", "app")


def summary(cpu: int, *, started: str = "2025-01-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    stats = {
        "startTime": started,
        "cpu": {"usageCoreNanoSeconds": cpu, **more},
        "memory": {"workingSetBytes": 1 << 20},
    }
    container = {"name": "app", **stats}
    pod = {"podRef": {"namespace": "default", "name": "web"}, "containers": [container]}
    return {"node": stats, "pods": [pod]}


def window(*samples: tuple[float, dict[str, Any]]) -> Window:
    made = Window()
    for at, each in samples:
        made.add(parse_summary(each, at, START + timedelta(seconds=at)))
    return made


def test_a_rate_needs_two_samples() -> None:
    assert window((0, summary(5))).container(KEY) is None
    two = window((0, summary(10**9)), (10, summary(6 * 10**9)))
    assert two.container(KEY) == Usage(5 * 10**8, 1 << 20, 10)
    assert two.node() == Usage(5 * 10**8, 1 << 20, 10)
    assert two.container(KEY._replace(pod="other")) is None


def test_a_restarted_container_has_no_rate_with_the_one_before() -> None:
    old, new = summary(10**9), summary(10, started="2025-12-31T23:00:00Z")
    assert window((0, old), (10, new)).container(KEY) is None


def test_a_young_container_has_its_average() -> None:
    young = summary(2 * 10**9, started="2025-12-31T23:59:50Z")
    assert window((0, young)).container(KEY) == Usage(2 * 10**8, 1 << 20, 10)


def test_a_kubelet_that_knows_the_rate_is_believed() -> None:
    assert window((0, summary(0, usageNanoCores=7))).container(KEY) == Usage(7, 1 << 20, 1)


def test_old_samples_are_forgotten() -> None:
    assert window((0, summary(0)), (500, summary(10**9))).container(KEY) is None


@given(st.lists(st.integers(0, 10**10), min_size=2, max_size=10))
def test_the_rate_is_that_of_the_last_interval(steps: list[int]) -> None:
    total, samples = 0, []
    for number, step in enumerate(steps):
        total += step
        samples.append((number * 5.0, summary(total)))
    found = window(*samples).container(KEY)
    assert found is not None
    assert found.cpu_nanocores == round(steps[-1] / 5)
