from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.core.qos import compute_pod_qos, pod_qos

FULL = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"requests": FULL, "limits": FULL}], "Guaranteed"),
        ([{"requests": FULL, "limits": FULL}, {}], "Burstable"),
        ([{"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": FULL, "requests": {"cpu": "1", "memory": "512Mi"}}], "Burstable"),
        ([{"requests": {"example.com/gpu": "1"}}], "BestEffort"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
    ],
)
def test_class(resources: list[dict[str, Any]], expected: str) -> None:
    containers = [{"name": f"c{i}", "resources": r} for i, r in enumerate(resources)]
    assert compute_pod_qos({"spec": {"containers": containers}}) == expected


def test_what_the_status_says_counts() -> None:
    pod = {"spec": {"containers": [{"name": "c"}]}, "status": {"qosClass": "Guaranteed"}}
    assert pod_qos(pod) == "Guaranteed"
