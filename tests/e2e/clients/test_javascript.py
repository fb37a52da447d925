"""The official JavaScript client: CRUD, patches, an informer, server-side apply."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from programs import TEST_SECONDS, Run, built, shell

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(TEST_SECONDS)]


@pytest.fixture(scope="module")
def program() -> str:
    def build(sources: Path, into: Path) -> None:
        shutil.copytree(sources, into, dirs_exist_ok=True)
        shell("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=into)

    return str(built("node", "npm", build) / "smoke.mjs")


def test_javascript(program: str, run: Run) -> None:
    assert json.loads(run(["node", program])) == {
        "version": "37",
        "data": {"a": "2"},
        "conflict": 409,
        "missing": 404,
        "events": ["add one", "add two", "delete two"],
        "manager": "smoke",
    }
