"""docs/e2e-node-network-storage.md: which tests it names, what it only counts, what it keeps."""

from __future__ import annotations

from pathlib import Path

from hack.conformance import catalog, more_report, report
from hack.conformance.suite import FAILED, NOT_RUN, PASSED, Result

RUN, ZONES, LATER, CSI, JOB = NAMES = (
    "[sig-node] Pods should run [NodeConformance]",
    "[sig-network] Services should span [Slow] zones",
    "[sig-node] Pods [Feature:X] should wait long",
    "[sig-storage] CSI Volumes should be",
    "[sig-apps] Job should end",
)
MENDED = "## Mended on the way\n\n- a thing | with | bars\n"


def write(path: Path, *results: tuple[str, str, str], date: str = "2026-01-01") -> str:
    found = [Result(catalog.Test(name, "", ""), out, 1.0, note) for name, out, note in results]
    return more_report.write(path, NAMES, found, date=date)


def test_document(tmp_path: Path) -> None:
    path = tmp_path / "more.md"
    path.write_text(f"# Old\n\n{MENDED}")
    summary = write(path, (RUN, FAILED, "got | 1"), (ZONES, NOT_RUN, "skipped - one zone"))
    assert summary == ("0 passed, 1 failed, 1 skip themselves, 1 had no turn yet, 1 are left out")
    text = path.read_text()
    assert text.endswith(MENDED) and text.count(MENDED) == 1
    assert "| node | 2 | 0 | 0 | 1 | 0 | 1 |" in text
    assert "| network | 1 | 0 | 0 | 0 | 1 | 0 |" in text
    assert "| total | 4 | 1 | 0 | 1 | 1 | 1 |" in text
    assert "| 1 | node: Pods should wait … |" in text
    assert "| 1 | CSI drivers: no CSI here |" in text
    assert CSI not in text and JOB not in text
    assert report.read(path)[RUN] == report.Line(FAILED, "2026-01-01", "got | 1")


def test_later_runs_change_their_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "more.md"
    write(path, (RUN, FAILED, "no"), (ZONES, NOT_RUN, "skipped"))
    summary = write(path, (RUN, PASSED, ""), (LATER, PASSED, ""), date="2026-01-02")
    assert summary.startswith("2 passed, 0 failed, 1 skip themselves, 0 had no turn yet")
    lines = report.read(path)
    assert lines[RUN] == report.Line(PASSED, "2026-01-02")
    assert lines[ZONES] == report.Line(NOT_RUN, "2026-01-01", "skipped")
    assert "## Not yet" not in path.read_text()


def test_kinds_beyond_a_number_are_others() -> None:
    names = [f"[sig-node] K{n} should work" for n in range(more_report.KINDS + 2)] + [RUN, RUN]
    found = dict(more_report.kinds(names))
    assert found["node: Pods should run …"] == 2 and found["others"] == 3
    assert sum(found.values()) == len(names) and len(found) == more_report.KINDS + 1


def test_belongs() -> None:
    assert [name for name in NAMES if more_report.belongs(name)] == [RUN, ZONES, LATER, CSI]
