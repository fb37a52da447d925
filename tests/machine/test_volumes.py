"""Persistent volumes with real containers, in a box that forgets everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
NOTHING = {"links": [], "mounts": [], "processes": [], "namespaces": [], "rules": []}
pytestmark = pytest.mark.machine


def test_stateful_pods_keep_their_data(box: Run) -> None:
    result = box("volumes.py")
    assert result["same_nodes"], "a volume of a node keeps its pod there"
    for name, log in result["logs"].items():
        assert len(log) == 2, "started twice, with the same directory"
        assert all(line.split()[0] == name and "2000" in line.split() for line in log)
    assert result["outside"] == result["logs"]["db-0"]
    assert result["denied"] and result["read_only"], "read-only mounts"
    assert result["static"] == "from the node" and result["reader_node"]
    assert result["explained"]
    assert len(result["made"]) == 4 and all(result["made"])
    assert not any(result["left"]), "reclaimed volumes leave no directory"
    assert result["kept"] == "from the node\n"
    assert result["leftovers"] == NOTHING
