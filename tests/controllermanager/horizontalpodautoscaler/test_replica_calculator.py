"""Replica counts: the cases of upstream's replica_calculator_test.go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.controllermanager.horizontalpodautoscaler.replica_calculator import (
    MAX_INT32,
    MAX_INT64,
    CalculationError,
    PodMetric,
    Readiness,
    Tolerances,
    group_pods,
    per_pod_replicas,
    plain_replicas,
    requests_of,
    resource_replicas,
    total_replicas,
)

EPOCH, NOW = "1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
READINESS = Readiness(1767225600.0, 120.0, 10.0)
T, F = True, False


def pods(
    count: int,
    *,
    ready: Sequence[bool] = (),
    phases: str = "",
    hot: Sequence[int] = (),
    deleted: Sequence[int] = (),
    requests: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Phases: R, P and F. Hot pods have just started."""
    made = []
    for i in range(max(count, len(phases))):
        request = requests[i] if i < len(requests) else "1.0"
        resources = {"requests": {"cpu": request}} if request else {}
        condition = {
            "type": "Ready",
            "status": "True" if i >= len(ready) or ready[i] else "False",
            "lastTransitionTime": EPOCH,
        }
        phase = {"R": "Running", "P": "Pending", "F": "Failed"}[phases[i] if phases else "R"]
        metadata = {"name": f"p{i}"} | ({"deletionTimestamp": NOW} if i in deleted else {})
        made.append(
            {
                "metadata": metadata,
                "spec": {
                    "containers": [
                        {"name": "container1", "resources": resources},
                        {"name": "container2", "resources": resources},
                    ]
                },
                "status": {
                    "phase": phase,
                    "startTime": NOW if i in hot else EPOCH,
                    "conditions": [condition],
                },
            }
        )
    return made


def metrics(*values: int) -> dict[str, PodMetric]:
    return {f"p{i}": PodMetric(value, 0.0, 60.0) for i, value in enumerate(values)}


# (current, utilization per pod, target, pods' options, replicas, utilization)
RESOURCE = {
    "up": (3, (300, 500, 700), 30, {}, 5, 50),
    "up, one unready": (3, (300, 500, 700), 30, {"ready": (F, T, T)}, 4, 60),
    "up, one hot": (3, (300, 500, 700), 30, {"hot": (0,)}, 4, 60),
    "unready ones ignored": (3, (400, 500, 700), 30, {"ready": (T, F, F)}, 3, 40),
    "hot and unready": (3, (400, 500, 700), 30, {"ready": (T, F, F), "hot": (1, 2)}, 3, 40),
    "up, failed ones": (2, (500, 700), 30, {"phases": "RRFF", "ready": (T, T, F, F)}, 4, 60),
    "up, deleted ones": (2, (500, 700), 30, {"phases": "RRRR", "deleted": (2, 3)}, 4, 60),
    "down": (5, (100, 300, 500, 250, 250), 50, {}, 3, 28),
    "down, unready": (5, (100, 300, 500, 250, 250), 50, {"ready": (T, T, T, F, F)}, 2, 30),
    "down, unscheduled": (5, (100,), 50, {"phases": "RPPPP"}, 1, 10),
    "down, hot": (5, (100, 300, 500, 250, 250), 50, {"hot": (3, 4)}, 2, 30),
    "down, failed": (5, (100, 300, 500, 250, 250), 50, {"phases": "RRRRRFF"}, 3, 28),
    "superfluous metrics": (4, (4000, 9500, 3000, 7000, 3200, 2000), 100, {}, 24, 587),
    "some missing, down": (4, (400, 95), 100, {}, 3, 24),
    "missing, equal": (2, (1000,), 100, {}, 2, 100),
    "missing, above": (2, (1900,), 100, {}, 2, 190),
    "missing, below": (2, (600,), 100, {}, 2, 60),
    "missing and unready": (3, (100, 450), 50, {"ready": (F, T, T)}, 3, 45),
    "missing and hot": (3, (100, 450), 50, {"hot": (0,)}, 3, 45),
    "up, missing and unready": (3, (100, 2000), 50, {"ready": (F, T, T)}, 4, 200),
    "down, missing and unready": (4, (100, 100, 100), 50, {"ready": (F, T, T, T)}, 3, 10),
    "down, target over 100": (
        4, (200, 100, 100), 300,
        {"ready": (F, T, T, T), "requests": ("1.0", "1.0", "2.0", "2.0")}, 2, 6,
    ),
    "surge without a metric": (2, (100, 100), 50, {"phases": "RRR"}, 2, 10),
}  # fmt: skip


@pytest.mark.parametrize("case", RESOURCE)
def test_utilization(case: str) -> None:
    current, values, target, options, replicas, utilization = RESOURCE[case]
    found = pods(current, **options)
    both = metrics(*(2 * value for value in values))
    got = resource_replicas(current, target, "cpu", both, found, Tolerances(), READINESS)
    assert got[:2] == (replicas, utilization)
    one = metrics(*values)
    single = resource_replicas(
        current, target, "cpu", one, found, Tolerances(), READINESS, "container2"
    )
    assert single[:2] == (replicas, utilization)
    assert got[2] in (2 * single[2], 2 * single[2] + 1)


@pytest.mark.parametrize(
    ("values", "tolerances", "replicas"),
    [
        ((1010, 1030, 1020), Tolerances(), 3),
        ((909, 1010, 1111), Tolerances(0, 0), 4),
        ((1890, 1910, 1900), Tolerances(0.1, 2), 3),
        ((1100, 1080, 1090), Tolerances(2, 0.08), 4),
        ((660, 640, 650), Tolerances(0.36, 0.1), 3),
        ((660, 640, 650), Tolerances(0.34, 0.1), 2),
    ],
)
def test_tolerances(values: tuple[int, ...], tolerances: Tolerances, replicas: int) -> None:
    found = pods(3, requests=("0.9", "1.0", "1.1"))
    doubled = metrics(*(2 * value for value in values))
    assert resource_replicas(3, 100, "cpu", doubled, found, tolerances, READINESS)[0] == replicas


def test_what_cannot_be_calculated() -> None:
    def replicas(values: dict[str, PodMetric], found: list[dict[str, Any]]) -> None:
        resource_replicas(1, 100, "cpu", values, found, Tolerances(), READINESS)

    with pytest.raises(CalculationError, match="no metrics returned matched known pods"):
        replicas({"other": PodMetric(200)}, pods(1))
    with pytest.raises(
        CalculationError, match="missing request for cpu in container container1 of Pod p0"
    ):
        replicas(metrics(200), pods(1, requests=("",)))
    with pytest.raises(CalculationError, match="no pods returned by selector"):
        replicas(metrics(200), [])
    with pytest.raises(CalculationError, match="pods might be unready"):
        replicas(metrics(200), pods(1, phases="P"))
    with pytest.raises(CalculationError, match="container x not found in Pod p0"):
        requests_of(pods(1), "x", "cpu")


def test_requests_of_the_pod_itself_count_first() -> None:
    (pod,) = pods(1)
    pod["spec"]["resources"] = {"requests": {"cpu": "3"}}
    assert requests_of([pod], "", "cpu") == {"p0": 3000}
    assert requests_of([pod], "container1", "cpu") == {"p0": 1000}


# (current, values, target, pods' options, replicas, average)
PLAIN = [
    (3, (20000, 10000, 30000), 15000, {}, 4, 20000),
    (3, (50000, 10000, 30000), 15000, {"ready": (T, T, F), "hot": (2,)}, 6, 30000),
    (3, (50000, 15000, 30000), 15000, {"ready": (F, T, F), "hot": (0, 2)}, 7, 31666),
    (5, (12000,) * 5, 20000, {}, 3, 12000),
    (3, (20000, 21000, 21000), 20000, {}, 3, 20666),
    (5, (20000, 19000, 21000), 20000, {}, 5, 20000),
    (2, (10000, 10000), 17000, {"phases": "RRR"}, 2, 10000),
]


@pytest.mark.parametrize(("current", "values", "target", "options", "replicas", "average"), PLAIN)
def test_plain_values(
    current: int, values: Any, target: int, options: Any, replicas: int, average: int
) -> None:
    found = pods(current, **options)
    got = plain_replicas(current, target, metrics(*values), found, Tolerances(), READINESS)
    assert got == (replicas, average)


@pytest.mark.parametrize(
    ("current", "usage", "target", "ready", "tolerances", "replicas"),
    [
        (3, 20000, 15000, (), Tolerances(), 4),
        (3, MAX_INT64, 1, (), Tolerances(), MAX_INT32),
        (3, 50000, 10000, (F, T, F), Tolerances(), 5),
        (5, 12000, 20000, (), Tolerances(), 3),
        (3, 20666, 20000, (), Tolerances(), 3),
        (3, 20666, 20000, (), Tolerances(0.1, 0.01), 4),
        (3, 8600, 4400, (F, T, F), Tolerances(), 2),
        (5, 8600, 14334, (), Tolerances(), 3),
        (3, 8600, 8888, (), Tolerances(), 3),
        (3, 8900, 8800, (), Tolerances(0.1, 0.01), 4),
        (3, MAX_INT64, MAX_INT64, (), Tolerances(), 3),
        (0, 25000, 10000, (), Tolerances(), 3),
        (0, 0, 10000, (), Tolerances(), 0),
    ],
)
def test_values_of_the_whole(
    current: int, usage: int, target: int, ready: Any, tolerances: Tolerances, replicas: int
) -> None:
    assert total_replicas(current, usage, target, pods(current, ready=ready), tolerances) == (
        replicas
    )


@pytest.mark.parametrize(
    ("current", "usage", "target", "tolerances", "expected"),
    [
        (3, 20000, 5000, Tolerances(), (4, 6667)),
        (5, 6000, 2000, Tolerances(), (3, 1200)),
        (4, 20166, 5000, Tolerances(), (4, 5042)),
        (4, 20208, 5000, Tolerances(0.1, 0.01), (5, 5052)),
        (1, MAX_INT64, 1, Tolerances(), (MAX_INT32, MAX_INT64)),
        (1, MAX_INT64, MAX_INT64, Tolerances(), (1, MAX_INT64)),
        (3, 8600, 2150, Tolerances(), (4, 2867)),
        (5, 8600, 2867, Tolerances(), (3, 1720)),
        (3, 8600, 2800, Tolerances(0.1, 0.01), (4, 2867)),
        (0, 8600, 2000, Tolerances(), (5, 8600)),
    ],
)
def test_shares_of_a_whole(
    current: int, usage: int, target: int, tolerances: Tolerances, expected: tuple[int, int]
) -> None:
    assert per_pod_replicas(current, usage, target, tolerances) == expected


def _ready_pod(status: str, changed: float, started: str = NOW) -> dict[str, Any]:
    from datetime import UTC, datetime

    (pod,) = pods(1)
    since = datetime.fromtimestamp(READINESS.now + changed, UTC)
    pod["status"]["startTime"] = started
    pod["status"]["conditions"][0] |= {
        "status": status,
        "lastTransitionTime": f"{since:%Y-%m-%dT%H:%M:%SZ}",
    }
    return pod


@pytest.mark.parametrize(
    ("pod", "metric_at", "unready"),
    [
        # In the initialization period: a whole window after the last change is needed.
        (_ready_pod("True", -90), -20.0, False),
        (_ready_pod("True", -90), -40.0, True),
        (_ready_pod("False", -90), 0.0, True),
        # Later: only pods that were never ready.
        (_ready_pod("True", -90, EPOCH), -80.0, False),
        (_ready_pod("False", -90, EPOCH), 0.0, False),
    ],
)
def test_fresh_pods(pod: Any, metric_at: float, unready: bool) -> None:
    found = {"p0": PodMetric(1, READINESS.now + metric_at, 60.0)}
    groups = group_pods([pod], found, "cpu", READINESS)
    assert groups.unready == ({"p0"} if unready else set())
    assert group_pods([pod], found, "memory", READINESS).ready == 1


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    st.integers(0, 3),
    st.integers(1, 400),
)
def test_missing_metrics_never_turn_a_change_round(
    values: list[int], missing: int, target: int
) -> None:
    known = len(values)
    doubled = metrics(*(2 * value for value in values))
    without = resource_replicas(
        known, target, "cpu", doubled, pods(known), Tolerances(), READINESS
    )[0]
    current = known + missing
    found = resource_replicas(
        current, target, "cpu", doubled, pods(current), Tolerances(), READINESS
    )[0]
    if without > known:
        assert found >= current
    elif without < known:
        assert found <= current
