"""The whole machine: real containers, networks and rules, in a box that forgets everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
NOTHING = {"links": [], "mounts": [], "processes": [], "namespaces": [], "rules": []}
pytestmark = pytest.mark.machine


def test_two_nodes_route_services_from_everywhere(box: Run) -> None:
    result = box("two_nodes.py")
    names = result["names"]
    assert len(names) == 4 and result["nodes"] == [2, 2]
    assert result["from_machine"] == names
    assert all(answer in names for answer in result["from_nodes"])
    assert len(result["from_nodes"]) == 2
    assert all(answer in names for answer in result["from_pods"])
    assert sorted(set(result["pod_to_pod"])) == names and len(result["pod_to_pod"]) == 16
    assert all(answer in names for answer in result["by_node_port"])
    assert result["node_port_on_localhost"] in names
    assert len(result["sticky"]) == 1
    assert result["refused"] == 7, "curl: connection refused, not a timeout"
    assert {"Scheduled", "Pulled", "Created", "Started"} <= set(result["reasons"])
    assert result["leftovers"] == NOTHING


def test_kill_9_loses_nothing_and_finds_containers_again(box: Run) -> None:
    result = box("killed.py")
    assert result["acknowledged"] > 120
    assert result["lost"] == []
    assert result["kept"] == result["before"], "running containers were found again"
    assert result["running"] == ["Running"] * 3
    assert result["answers"] == result["names"]
    assert result["leftovers"] == NOTHING


def test_clusters_side_by_side_and_clear_errors(box: Run) -> None:
    result = box("side_by_side.py")
    for answer, expected in result["answers"].values():
        assert answer == expected
    failures = result["failures"]
    assert "already up" in failures["again"] and "pilothouse down" in failures["again"]
    assert "in use" in failures["port"] and "--port 0" in failures["port"]
    assert "--name" in failures["flag"]
    assert "--etcd-servers" in failures["etcd"]
    assert "damaged" in failures["damaged"] and "--delete" in failures["damaged"]
    assert result["down"] is False
    assert set(result["modes"].values()) == {"0o600"}
    assert len(result["contexts"]) == 2
    assert result["contexts_left"] == [] and result["home"] == []
    assert result["leftovers"] == NOTHING


def test_separate_processes_on_etcd(box: Run) -> None:
    result = box("separate_processes.py")
    assert result["answer"] == result["executed"] == result["by_name"] == "hello"
    assert len(result["keys"]) == 2
    assert "kubelet" not in result["users"]
    assert result["leftovers"] == NOTHING
