"""kube-rs: a derived CRD, reflector, watch, controller, finalizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import TEST_SECONDS, Run, built, shell

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(TEST_SECONDS)]


@pytest.fixture(scope="module")
def program() -> str:
    def build(sources: Path, into: Path) -> None:
        shell("cargo", "build", "--locked", cwd=sources, CARGO_TARGET_DIR=str(into / "target"))
        (into / "target" / "debug" / "clients").rename(into / "clients")

    return str(built("rust", "cargo", build) / "clients")


def test_kube_rs(program: str, run: Run) -> None:
    assert json.loads(run([program])) == {
        "version": "37",
        "reflector": {"page": 2, "continues": True, "modified": True, "missing": 404},
        "controller": {"finalizers": ["clients.pilothouse.dev/gadget"], "size": "3"},
    }
