"""What a kubelet looks after, on a real node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


@pytest.mark.machine
def test_limits_and_a_killed_kubelet(box: Run) -> None:
    result = box("node_care.py", timeout=150)
    # An allowed sysctl; a volume in memory holds no more than it may, also below a sub-path.
    assert result["volumes"] == ["65536", "1044480", "in"]
    assert result["together"] == {
        name: [1, "RestartingAllContainers"] for name in ("other", "c", "i")
    }
    assert result["refused"]
    assert result["last"].endswith("of many")
    assert result["same"] and result["kept"] == "in"
    assert result["static"] == "Running"
    assert result["went_on"], "a deleted mirror is made anew, its pod runs on"
    assert result["mounted"] == []
    assert result["leftovers"]["mounts"] == result["leftovers"]["processes"] == []
