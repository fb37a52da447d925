"""Runs a scenario in namespaces of its own: no route out, and nothing of it survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCENARIOS = Path(__file__).parent / "scenarios"
BOX = [
    "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net",
    "--propagation", "private",
]  # fmt: skip
Run = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        reason = pytest.mark.skip(reason="needs root: network namespaces and containers")
        for item in items:
            if SCENARIOS.parent in item.path.parents:
                item.add_marker(reason)


def cgroup_folders(word: str) -> list[str]:
    """Folders of pods in all cgroup hierarchies."""
    found = []
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        if hierarchy.is_dir():
            found += [str(p) for p in hierarchy.glob(f"kubepods-{word}*")]
    return found


@pytest.fixture
def box(tmp_path: Path) -> Run:
    """``box("scenario.py", timeout=60)`` runs it and returns the JSON object of its last line;
    fails with its output when it fails. Afterwards no cgroup of it is left."""
    name = f"t{os.getpid()}"

    def run(scenario: str, *, timeout: float = 90.0) -> dict[str, Any]:
        environment = os.environ | {
            "PILOTHOUSE_HOME": str(tmp_path / "home"),
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "TEST_NAME": name,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        inner = 'ip link set lo up && mount -t tmpfs tmpfs /run && exec "$@"'
        command = [*BOX, "sh", "-c", inner, "sh", sys.executable, str(SCENARIOS / scenario)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, cwd="/"
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert cgroup_folders(name) == []
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return result

    return run
