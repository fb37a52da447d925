"""client-go (typed over protobuf, informers, dynamic, leader election) and controller-runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from programs import TEST_SECONDS, Run, built, shell

from pilothouse.cli import envtest_assets

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(TEST_SECONDS)]


@pytest.fixture(scope="module")
def program() -> str:
    def build(sources: Path, into: Path) -> None:
        shell("go", "build", "-o", str(into / "clients"), ".", cwd=sources)

    return str(built("go", "go", build) / "clients")


EXPECTED: dict[str, dict[str, Any]] = {
    "typed": {
        "version": "37",
        "data": {"c": "3"},
        "binary": "AP8=",
        "conflict": True,
        "missing": True,
        "exists": True,
        "invalid": True,
        "replicas": 3,
        "managers": ["one", "two"],
        "blocked": True,
        "listed": 1,
        "after": 0,
    },
    "protobuf": {
        "event": "ADDED binary",
        "same": True,
        "roles": 5,
        "continues": True,
        "rules": True,
        "missing": True,
        "umlaut": "ä",
        "fresh": True,
    },
    "informers": {
        "events": {"add": 20, "delete": 2, "update": 1},
        "even": 10,
        "metadata": 20,
        "kinds": ["ADDED", "DELETED"],
        "left": 18,
    },
    "dynamic": {
        "resource": "widgets",
        "color": "blue",
        "kept": False,
        "phase": "fine",
        "refused": 'Widget.clients.pilothouse.dev "one" is invalid: spec.size: Invalid value: -1: '
        "spec.size in body should be greater than or equal to 0",
    },
    "election": {"leaders": ["one", "two"]},
    "manager": {"owner": "ConfigMap/source", "indexed": 1},
    "envtest": {"forbidden": True, "kept": True},
}


@pytest.mark.parametrize("story", EXPECTED)
def test_go(
    program: str, run: Run, story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envtest_assets.write(tmp_path)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert json.loads(run([program, story])) == EXPECTED[story]
