"""Effective requests of pods: init containers, sidecars, overhead, pod-level resources."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apis.core.resource_requests import pod_limits, pod_requests


def container(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}, **more}


ALWAYS = {"restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container("1"), container("500m")]}, 1500),
        ({"containers": [container("1")], "initContainers": [container("2")]}, 2000),
        ({"containers": [container("1")], "initContainers": [container("500m")]}, 1000),
        ({"containers": [container("1")], "initContainers": [container("500m", **ALWAYS)]}, 1500),
        (
            {
                "containers": [container("1")],
                "initContainers": [container("500m", **ALWAYS), container("2")],
            },
            2500,
        ),
        (
            {
                "containers": [container("1")],
                "initContainers": [container("2"), container("500m", **ALWAYS)],
            },
            2000,
        ),
        ({"containers": [container("1")], "overhead": {"cpu": "250m"}}, 1250),
        ({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}}, 3000),
    ],
)
def test_requests(spec: dict[str, Any], expected: int) -> None:
    assert pod_requests({"spec": spec})["cpu"].milli_value() == expected


def test_overhead_can_be_left_out() -> None:
    pod = {"spec": {"containers": [container("1")], "overhead": {"cpu": "250m"}}}
    assert pod_requests(pod, exclude_overhead=True)["cpu"].milli_value() == 1000
    assert pod_limits(pod)["cpu"].milli_value() == 1250


def test_a_resize_in_progress_counts_the_larger() -> None:
    status = {"name": "c", "allocatedResources": {"cpu": "2"}, "resources": {}}
    pod = {"spec": {"containers": [container("1")]}, "status": {"containerStatuses": [status]}}
    assert pod_requests(pod, use_status=True)["cpu"].milli_value() == 2000
    assert pod_requests(pod)["cpu"].milli_value() == 1000
