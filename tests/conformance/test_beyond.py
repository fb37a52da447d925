"""Official tests beyond Conformance: which are run, and what docs/e2e.md says of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hack.conformance import beyond, beyond_report, catalog, report
from hack.conformance.suite import FAILED, NOT_RUN, PASSED, Result

LISTED = """The following spec names can be used with 'ginkgo run --focus/skip':
    ../e2e/apps/job.go:1: [sig-apps] Job should end
    ../e2e/apps/job.go:2: [sig-apps] Job should last [Conformance]
    ../e2e/apps/job.go:3: [sig-apps] Job should gang up [Alpha] [Feature:OffByDefault]
    ../e2e/node/pod.go:1: [sig-node] Pods should run
    ../e2e/auth/x.go:1: [sig-auth] X should wait

"""
END, GANG, WAIT = (
    "[sig-apps] Job should end",
    "[sig-apps] Job should gang up [Alpha] [Feature:OffByDefault]",
    "[sig-auth] X should wait",
)
POD = "[sig-node] Pods should run"


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, stdout=LISTED)

    monkeypatch.setattr(subprocess, "run", run)


def chosen(focus: str = "", skip: str = "") -> list[str]:
    return [test.name for test in beyond.matching(focus, skip)]


def test_choice() -> None:
    assert beyond.names() == [END, GANG, WAIT, POD]
    assert chosen() == [END, WAIT]
    assert chosen("sig-node|should") == [END, WAIT, POD]
    assert chosen("should", "wait|run") == [END]
    assert [test.name for test in beyond.named([GANG])] == [GANG]


def test_reasons_are_patterns_with_a_kind() -> None:
    assert {kind for _, kind, _ in beyond.reasons()} <= {"left out", "fails", "not run"}
    assert beyond.reason(GANG, "left out") and not beyond.reason(GANG, "fails")


def test_document(tmp_path: Path) -> None:
    path = tmp_path / "e2e.md"
    end, pod = (catalog.Test(name, "", "") for name in (END, POD))
    first = [Result(end, FAILED, 1.0, "got | 1"), Result(pod, PASSED)]
    summary = beyond_report.write(path, beyond.names(), first, date="2026-01-01")
    assert summary == "1 passed, 1 failed, 1 were not run, 1 are left out"
    text = path.read_text()
    assert "| apps | 0 | 1 | 0 | 1 |" in text and "| node | 1 | 0 | 0 | 0 |" in text
    assert report.read(path)[END] == report.Line(FAILED, "2026-01-01", "got | 1")
    assert report.read(path)[WAIT].outcome == NOT_RUN
    second = [Result(end, PASSED)]
    summary = beyond_report.write(path, beyond.names(), second, date="2026-01-02")
    assert summary == "2 passed, 0 failed, 1 were not run, 1 are left out"
