"""Which pod goes first, and what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.kubelet.eviction.ranking import Usage, message, ranked, rejection
from pilothouse.kubelet.eviction.thresholds import Observation, Threshold


def pod(name: str, memory: str = "", **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c"}
    if memory:
        container["resources"] = {"requests": {"memory": memory}}
    return {"metadata": {"name": name, "uid": name}, "spec": {"containers": [container], **spec}}


def test_over_its_request_then_priority_then_by_how_much() -> None:
    pods = [
        pod("within", "10Mi", priority=-5),
        pod("much", "1Mi", priority=10),
        pod("more", "1Mi"),
        pod("less", "3Mi"),
        pod("critical", priority=2_000_000_000),
    ]
    usage = {p["metadata"]["name"]: Usage({"c": 5 << 20}) for p in pods}
    names = [p["metadata"]["name"] for p in ranked(pods, usage, "memory")]
    assert names == ["more", "less", "much", "within"]


def test_processes_go_by_priority_only() -> None:
    pods = [pod("high", priority=5), pod("low", priority=1)]
    assert [p["metadata"]["name"] for p in ranked(pods, {}, "pids")] == ["low", "high"]


def test_the_pod_is_told_why() -> None:
    threshold = Threshold("memory.available", amount=100 << 20)
    text = message(
        pod("p", "1Mi"), Usage({"c": 5 << 20}), threshold,
        {"memory.available": Observation(50 << 20, 1 << 30)},
    )  # fmt: skip
    assert text == (
        "The node was low on resource: memory. "
        "Threshold quantity: 102400Ki, available: 51200Ki. "
        "Container c was using 5120Ki, request is 1Mi, has larger consumption of memory. "
    )


TOLERANT = [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("made", "conditions", "admitted"),
    [
        (pod("p"), set(), True),
        (pod("p"), {"MemoryPressure"}, False),
        (pod("p", "1Mi"), {"MemoryPressure"}, True),
        (pod("p", tolerations=TOLERANT), {"MemoryPressure"}, True),
        (pod("p", tolerations=[{"operator": "Exists"}]), {"MemoryPressure"}, True),
        (pod("p", tolerations=[{"key": "x", "operator": "Exists"}]), {"MemoryPressure"}, False),
        (pod("p", "1Mi"), {"DiskPressure"}, False),
        (pod("p", tolerations=TOLERANT), {"MemoryPressure", "DiskPressure"}, False),
        (pod("p", priority=2_000_000_000), {"DiskPressure"}, True),
    ],
)
def test_who_is_taken_under_pressure(
    made: dict[str, Any], conditions: set[str], admitted: bool
) -> None:
    problem = rejection(made, frozenset(conditions))
    assert (problem is None) == admitted
    if problem is not None:
        assert problem == ("Evicted", f"The node had condition: [{' '.join(sorted(conditions))}]. ")
