"""fabric8: CRUD, server-side apply, informers, deployments, custom resources."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import TEST_SECONDS, Run, built, shell

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(TEST_SECONDS)]


@pytest.fixture(scope="module")
def classpath() -> str:
    def build(sources: Path, into: Path) -> None:
        shell("mvn", "-q", "-B", f"-Dtarget={into}", "package", cwd=sources)

    into = built("java", "mvn", build)
    return f"{into}/clients-1.jar:{into}/lib/*"


def test_fabric8(classpath: str, run: Run) -> None:
    lines = run(["java", "-cp", classpath, "Smoke"]).splitlines()
    assert dict(line.split("=", 1) for line in lines) == {
        "version": "37",
        "conflict": "409",
        "applied": "{a=1, b=2, c=3}",
        "invalid": "422 metadata.name",
        "missing": "null",
        "events": "[add one, add two, update two, delete two]",
        "indexed": "1",
        "replicas": "3",
        "pods": "true",
        "phase": "fine",
        "size": "7",
    }
