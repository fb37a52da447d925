"""Node and pod networks for real, inside namespaces of the test's own (``inside.py``)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.kubelet.network.node_network import NetworkConflict, choose_subnet

BOX = "unshare --pid --fork --kill-child --mount-proc --mount --net --propagation private".split()


def run_inside(check: str) -> None:
    script = Path(__file__).with_name("inside.py")
    command = f"mount -t tmpfs none /run && exec {sys.executable} {script} {check}"
    result = subprocess.run(
        [*BOX, "sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.endswith("ok\n"), result.stdout + result.stderr


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_pods_nodes_and_machine_reach_each_other_and_nothing_is_left() -> None:
    run_inside("cluster")


def test_a_subnet_is_stable_and_avoids_what_the_machine_routes() -> None:
    first = choose_subnet("a", "172.16.0.0/12", 24, [])
    assert choose_subnet("a", "172.16.0.0/12", 24, ["0.0.0.0/0"]) == first
    second = choose_subnet("a", "172.16.0.0/12", 24, [first])
    assert second != first
    assert second.startswith("172.")


def test_no_free_subnet_is_said() -> None:
    with pytest.raises(NetworkConflict):
        choose_subnet("a", "10.0.0.0/23", 24, ["10.0.0.0/8"])
