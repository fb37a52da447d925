"""autoscaling/v1's annotations hold metrics in v1's own form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.registry.autoscaling import metrics_v1
from pilothouse.apiserver.registry.conversion import AutoscalerConverter

SELECTOR = {"matchLabels": {"a": "b"}}
WISHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {
            "type": "Resource",
            "resource": {
                "name": "memory",
                "target": {"type": "AverageValue", "averageValue": "1Gi"},
            },
        },
        {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
    ),
    (
        {
            "type": "ContainerResource",
            "containerResource": {
                "name": "cpu",
                "container": "c",
                "target": {"type": "Utilization", "averageUtilization": 5},
            },
        },
        {
            "type": "ContainerResource",
            "containerResource": {"name": "cpu", "targetAverageUtilization": 5, "container": "c"},
        },
    ),
    (
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "m", "selector": SELECTOR},
                "target": {"type": "AverageValue", "averageValue": "3"},
            },
        },
        {
            "type": "Pods",
            "pods": {"metricName": "m", "targetAverageValue": "3", "selector": SELECTOR},
        },
    ),
    (
        {
            "type": "Object",
            "object": {
                "describedObject": {"kind": "K", "name": "n", "apiVersion": "v1"},
                "metric": {"name": "m"},
                "target": {"type": "Value", "value": "7"},
            },
        },
        {
            "type": "Object",
            "object": {
                "target": {"kind": "K", "name": "n", "apiVersion": "v1"},
                "metricName": "m",
                "targetValue": "7",
            },
        },
    ),
    (
        {
            "type": "External",
            "external": {
                "metric": {"name": "m", "selector": SELECTOR},
                "target": {"type": "AverageValue", "averageValue": "9"},
            },
        },
        {
            "type": "External",
            "external": {"metricName": "m", "metricSelector": SELECTOR, "targetAverageValue": "9"},
        },
    ),
]


@pytest.mark.parametrize(("stored", "shown"), WISHES)
def test_wishes_there_and_back(stored: dict[str, Any], shown: dict[str, Any]) -> None:
    found = metrics_v1.metric_to_v1(stored)
    assert json.dumps(found) == json.dumps(shown)
    assert metrics_v1.metric_from_v1(found) == stored


def test_what_was_measured_there_and_back() -> None:
    stored = {
        "type": "Resource",
        "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "0"}},
    }
    shown = metrics_v1.status_to_v1(stored)
    assert shown["resource"] == {
        "name": "cpu",
        "currentAverageUtilization": 7,
        "currentAverageValue": "0",
    }
    assert metrics_v1.status_from_v1(shown) == stored


def autoscaler(annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": "HorizontalPodAutoscaler",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "a", "annotations": annotations},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
    }


def test_annotations_of_a_client_are_read() -> None:
    name = "autoscaling.alpha.kubernetes.io/metrics"
    text = json.dumps([shown for _, shown in WISHES])
    stored = AutoscalerConverter().to_storage(autoscaler({name: text}))
    assert stored["spec"]["metrics"] == [metric for metric, _ in WISHES]
    back = AutoscalerConverter().from_storage(stored)
    assert json.loads(back["metadata"]["annotations"][name]) == [shown for _, shown in WISHES]


@pytest.mark.parametrize("text", ["5", "[1]", "{", '{"a": 1}'])
def test_annotations_that_are_no_metrics_are_dropped(text: str) -> None:
    name = "autoscaling.alpha.kubernetes.io/metrics"
    stored = AutoscalerConverter().to_storage(autoscaler({name: text}))
    assert "metrics" not in stored["spec"] and "annotations" not in stored["metadata"]


def test_annotations_with_wrong_types_are_refused() -> None:
    name = "autoscaling.alpha.kubernetes.io/metrics"
    text = '[{"type": "Object", "object": {"target": 5}}]'
    with pytest.raises(StatusError) as refused:
        AutoscalerConverter().to_storage(autoscaler({name: text}))
    assert refused.value.code == 400
