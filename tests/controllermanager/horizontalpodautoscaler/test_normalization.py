"""Limits, policies and stabilization: cases of upstream's horizontal_test.go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.controllermanager.horizontalpodautoscaler.normalization import (
    History,
    Request,
    Timed,
    normalize,
    normalize_with_behavior,
)

NOW = 10_000.0


def rules(*policies: tuple[str, int, int], select: str = "Max", window: int = 0) -> dict[str, Any]:
    return {
        "stabilizationWindowSeconds": window,
        "selectPolicy": select,
        "policies": [{"type": t, "value": v, "periodSeconds": p} for t, v, p in policies],
    }


UP = rules(("Percent", 100, 15), ("Pods", 4, 15))
DOWN = rules(("Percent", 100, 15), window=300)


@pytest.mark.parametrize(
    ("current", "desired", "minimum", "maximum", "replicas", "reason"),
    [
        (2, 9, 1, 100, 4, "ScaleUpLimit"),
        (1, 9, 1, 100, 4, "ScaleUpLimit"),
        (10, 50, 1, 100, 20, "ScaleUpLimit"),
        (10, 50, 1, 15, 15, "TooManyReplicas"),
        (10, 1, 3, 15, 3, "TooFewReplicas"),
        (10, 12, 3, 15, 12, "DesiredWithinRange"),
    ],
)
def test_rules_without_behavior(
    current: int, desired: int, minimum: int, maximum: int, replicas: int, reason: str
) -> None:
    request = Request(current, desired, minimum, maximum, NOW)
    result = normalize(request, History(), 300)
    assert (result.replicas, result.limit[0]) == (replicas, reason)
    assert result.limited == (replicas != desired)
    assert result.able[0] == "ReadyForNewScale"


def test_scaling_down_waits_for_the_highest_recent_recommendation() -> None:
    history = History([Timed(8, NOW - 299), Timed(20, NOW - 301)])
    result = normalize(Request(10, 2, 1, 100, NOW), history, 300)
    assert (result.replicas, result.able[0]) == (8, "ScaleDownStabilized")
    assert history.recommendations[-1] == Timed(2, NOW)
    later = normalize(Request(8, 2, 1, 100, NOW + 2), history, 300)
    assert later.replicas == 2


@pytest.mark.parametrize(
    ("up", "ups", "downs", "replicas"),
    [
        (UP, [], [], 20),
        (rules(("Pods", 4, 15)), [], [], 14),
        (rules(("Percent", 50, 60), ("Pods", 2, 60), select="Min"), [], [], 12),
        (rules(("Pods", 4, 60)), [Timed(3, NOW - 59)], [], 11),
        (rules(("Pods", 4, 60)), [Timed(4, NOW - 61)], [], 14),
        (rules(("Pods", 4, 60)), [Timed(9, NOW - 1)], [], 10),
        (rules(("Pods", 4, 60)), [], [Timed(2, NOW - 1)], 16),
        (rules(("Percent", 1, 60)), [], [], 11),
        (rules(select="Disabled"), [], [], 10),
    ],
)
def test_policies_of_scaling_up(up: Any, ups: Any, downs: Any, replicas: int) -> None:
    history = History(ups=ups, downs=downs)
    behavior = {"scaleUp": up, "scaleDown": DOWN}
    result = normalize_with_behavior(Request(10, 100, 1, 1000, NOW), history, behavior, 300)
    assert (result.replicas, result.limit[0]) == (replicas, "ScaleUpLimit")


@pytest.mark.parametrize(
    ("down", "downs", "replicas", "reason"),
    [
        (rules(("Percent", 100, 15)), [], 1, "DesiredWithinRange"),
        (rules(("Pods", 3, 15)), [], 7, "ScaleDownLimit"),
        (rules(("Pods", 3, 15), ("Percent", 10, 15), select="Min"), [], 9, "ScaleDownLimit"),
        (rules(("Pods", 3, 60)), [Timed(2, NOW - 5)], 9, "ScaleDownLimit"),
        (rules(select="Disabled"), [], 10, "ScaleDownLimit"),
    ],
)
def test_policies_of_scaling_down(down: Any, downs: Any, replicas: int, reason: str) -> None:
    history = History(downs=downs)
    behavior = {"scaleUp": UP, "scaleDown": down}
    result = normalize_with_behavior(Request(10, 1, 1, 1000, NOW), history, behavior, 300)
    assert (result.replicas, result.limit[0]) == (replicas, reason)


def test_stabilization_in_both_directions() -> None:
    behavior = {"scaleUp": UP | {"stabilizationWindowSeconds": 60}, "scaleDown": DOWN}
    history = History([Timed(12, NOW - 30)])
    result = normalize_with_behavior(Request(10, 20, 1, 100, NOW), history, behavior, 300)
    assert (result.replicas, result.able[0]) == (12, "ScaleUpStabilized")
    history = History([Timed(6, NOW - 200)])
    result = normalize_with_behavior(Request(10, 2, 1, 100, NOW), history, behavior, 300)
    assert (result.replicas, result.able[0]) == (6, "ScaleDownStabilized")


def test_changes_are_remembered_as_long_as_a_policy_can_ask() -> None:
    history = History()
    history.scaled(2, 5, NOW)
    history.scaled(5, 4, NOW + 1)
    assert (history.ups, history.downs) == ([Timed(3, NOW)], [Timed(1, NOW + 1)])
    history.scaled(4, 6, NOW + 1801)
    assert history.ups == [Timed(2, NOW + 1801)]


@given(
    st.integers(1, 50),
    st.integers(0, 80),
    st.integers(1, 10),
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500)), max_size=5),
)
def test_the_bounds_hold_whatever_was_recommended(
    current: int, desired: int, minimum: int, more: int, past: list[tuple[int, int]]
) -> None:
    maximum = minimum + more
    current = min(max(current, minimum), maximum)
    recommended = [Timed(value, NOW - age) for value, age in past]
    for behavior in (None, {"scaleUp": UP, "scaleDown": DOWN}):
        request = Request(current, desired, minimum, maximum, NOW)
        history = History(list(recommended))
        result = (
            normalize(request, history, 300)
            if behavior is None
            else normalize_with_behavior(request, history, behavior, 300)
        )
        assert minimum <= result.replicas <= maximum


_LOOKS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 90)), min_size=1, max_size=40)
_WINDOWS = st.tuples(st.sampled_from([0, 60, 120]), st.sampled_from([0, 60, 300]))


@given(_LOOKS, _WINDOWS)
def test_no_change_goes_beyond_what_the_window_recommended(
    looks: list[tuple[int, int]], windows: tuple[int, int]
) -> None:
    """Within its window a scale-down never falls below the highest recommendation, a scale-up
    never rises above the lowest: a short spike or dip moves nothing."""
    up_window, down_window = windows
    behavior = {
        "scaleUp": UP | {"stabilizationWindowSeconds": up_window},
        "scaleDown": DOWN | {"stabilizationWindowSeconds": down_window},
    }
    history, current, now = History(), 5, NOW
    history.start_with(current, now)
    seen = [(now, current)]
    for desired, pause in looks:
        now += pause
        seen.append((now, desired))
        recent_up = [value for at, value in seen if at > now - up_window] + [desired]
        recent_down = [value for at, value in seen if at > now - down_window] + [desired]
        request = Request(current, desired, 0, 100, now)
        result = normalize_with_behavior(request, history, behavior, 300)
        if result.replicas > current:
            assert result.replicas <= min(recent_up)
        if result.replicas < current:
            assert result.replicas >= max(recent_down)
        if result.replicas != current:
            history.scaled(current, result.replicas, now)
        current = result.replicas


@given(_LOOKS)
def test_without_behavior_five_minutes_hold_the_highest(looks: list[tuple[int, int]]) -> None:
    history, current, now = History(), 5, NOW
    history.start_with(current, now)
    seen = [(now, current)]
    for desired, pause in looks:
        now += pause
        seen.append((now, desired))
        result = normalize(Request(current, desired, 0, 100, now), history, 300)
        if result.replicas < current:
            assert result.replicas >= max(value for at, value in seen if at >= now - 300)
        current = result.replicas
