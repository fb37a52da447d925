"""docs/e2e.md: what became of the official tests beyond Conformance.

The file is the memory of earlier runs, as docs/conformance.md is (report.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hack.conformance import beyond
from hack.conformance.report import Line, escape, read, without_folders
from hack.conformance.suite import FAILED, NOT_RUN, PASSED, Result

TABLE = "| Result | Date | Test | Note |\n|---|---|---|---|"
HEAD = """# Official tests beyond Conformance

`e2e.test` v1.37.2 holds {all} tests that aren't conformance tests; this is about the {here} of
{sigs}.

**{summary}.**

The date is that of a test's last run, which may have been of an earlier commit than others'.
`hack/conformance/run.sh --suite e2e` (with `--focus REGEX`, `--skip REGEX`, `--runtime fake` or
`oci`) runs them and changes their lines here. Why a test is left out or fails stands in
`hack/conformance/beyond_reasons.tsv`. [Another page](e2e-node-network-storage.md) is about the
tests of node, network and storage.
"""


def write(path: Path, names: Iterable[str], results: Iterable[Result], *, date: str) -> str:
    """Writes the document and returns its first sentence."""
    names = list(names)
    lines = read(path)
    for result in results:
        lines[result.test.name] = Line(result.outcome, date, result.note)
    here = [name for name in names if beyond.sig_of(name) in beyond.SIGS or ran(lines, name)]
    groups: dict[str, list[str]] = {kind: [] for kind in (FAILED, NOT_RUN, "left out", PASSED)}
    for name in here:
        groups[kind(name, lines.get(name))].append(name)
    counts = {kind: len(found) for kind, found in groups.items()}
    summary = (
        f"{counts[PASSED]} passed, {counts[FAILED]} failed, {counts[NOT_RUN]} were not run, "
        f"{counts['left out']} are left out"
    )
    sigs = sorted({beyond.sig_of(name) for name in here})
    head = {"all": len(names), "here": len(here), "sigs": ", ".join(sigs), "summary": summary}
    parts = [HEAD.format(**head), *by_sig(sigs, groups), ""]
    for title, outcome in (
        ("Failed", FAILED), ("Not run", NOT_RUN), ("Left out", "left out"), ("Passed", PASSED),
    ):  # fmt: skip
        if groups[outcome]:
            parts += [f"## {title}\n", TABLE]
            parts += [row(name, outcome, lines.get(name)) for name in groups[outcome]]
            parts.append("")
    path.write_text("\n".join(parts))
    return summary


def ran(lines: dict[str, Line], name: str) -> bool:
    return name in lines and lines[name].outcome != NOT_RUN


def kind(name: str, line: Line | None) -> str:
    """The group of a test: what became of it, or that nobody wanted to know."""
    if line is not None and line.outcome != NOT_RUN:
        return line.outcome
    return "left out" if beyond.reason(name, "left out") else NOT_RUN


def by_sig(sigs: Iterable[str], groups: dict[str, list[str]]) -> Iterable[str]:
    yield "| SIG | passed | failed | not run | left out |\n|---|---|---|---|---|"
    counts = {kind: Counter(map(beyond.sig_of, found)) for kind, found in groups.items()}
    for sig in sigs:
        numbers = (counts[kind][sig] for kind in (PASSED, FAILED, NOT_RUN, "left out"))
        yield f"| {sig} | {' | '.join(map(str, numbers))} |"


def row(name: str, outcome: str, line: Line | None) -> str:
    line = line or Line(NOT_RUN)
    notes = {
        PASSED: "",
        FAILED: beyond.reason(name, "fails") or line.note,
        "left out": beyond.reason(name, "left out"),
        NOT_RUN: beyond.reason(name, "not run") or line.note or "not tried yet",
    }
    note = without_folders(notes[outcome])
    return f"| {line.outcome} | {line.date} | {escape(name)} | {escape(note)} |"
