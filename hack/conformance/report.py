"""docs/conformance.md: how many of the official tests pass, and a line for each.

The file is the memory of earlier runs too: a run of some tests changes only their lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.conformance.catalog import REAL, Test
from hack.conformance.suite import FAILED, NOT_RUN, PASSED, Result

ROW = re.compile(r"^\| (passed|failed|not run) \| (\S*) \| (.+?) \| (.*?) ?\|$")
MARKS = {PASSED: "passed", FAILED: "failed", NOT_RUN: "not run"}


@dataclass(frozen=True)
class Line:
    """What the document says of one test."""

    outcome: str
    date: str = ""
    note: str = ""


def read(path: Path) -> dict[str, Line]:
    """The lines of an earlier document, by test name."""
    text = path.read_text() if path.exists() else ""
    found = (ROW.match(line) for line in text.splitlines())
    return {unescape(m[3]): Line(m[1], m[2], unescape(m[4])) for m in found if m}


def write(
    path: Path,
    tests: Iterable[Test],
    results: Iterable[Result],
    *,
    date: str,
    command: str,
    runtime: str,
) -> str:
    """Writes the document and returns its first sentence."""
    lines = read(path)
    for result in results:
        lines[result.test.name] = Line(result.outcome, date, result.note)
    tests = list(tests)
    for test in tests:
        if test.name not in lines:
            lines[test.name] = Line(NOT_RUN, "", reason(test))
    total = Counter(lines[test.name].outcome for test in tests)
    summary = (
        f"{total[PASSED]} of {len(tests)} tests passed, {total[FAILED]} failed, "
        f"{total[NOT_RUN]} were not run"
    )
    parts = [
        "# Conformance\n",
        "The official Kubernetes v1.37.2 conformance tests (`e2e.test`, label Conformance): "
        f"**{summary}**.\n",
        f"Last run: {date}, runtime {runtime}, `{without_folders(command)}`. A run of some tests "
        "changes only their lines; the date is that of a test's last run. "
        "`hack/conformance/run.sh` makes this file; the tests in "
        "`hack/conformance/known_green.txt` must go on passing (`--check`).\n",
        "| Layer | passed | failed | not run |\n|---|---|---|---|",
        *(by_layer(tests, lines)),
        "",
    ]
    for area in sorted({area_of(test) for test in tests}):
        parts.append(f"## {area}\n\n| Result | Date | Test | Note |\n|---|---|---|---|")
        parts += [row(test, lines[test.name]) for test in tests if area_of(test) == area]
        parts.append("")
    path.write_text("\n".join(parts))
    return summary


LAYERS = {
    "a": "API server alone",
    "b": "+ controllers and scheduler",
    "c": "+ kubelet",
    "d": "+ service proxy and DNS",
    "e": "two nodes",
}


def by_layer(tests: list[Test], lines: dict[str, Line]) -> Iterable[str]:
    for layer, meaning in LAYERS.items():
        count = Counter(lines[test.name].outcome for test in tests if test.layer == layer)
        yield f"| {layer}: {meaning} | {count[PASSED]} | {count[FAILED]} | {count[NOT_RUN]} |"


def reason(test: Test) -> str:
    if test.need == REAL:
        return "needs containers that run (oci runtime)"
    return "not tried yet"


def area_of(test: Test) -> str:
    return test.name[1 : test.name.index("]")]


def row(test: Test, line: Line) -> str:
    note = "" if line.outcome == PASSED else without_folders(line.note)
    return f"| {MARKS[line.outcome]} | {line.date} | {escape(test.name)} | {escape(note)} |"


def without_folders(text: str) -> str:
    """Absolute paths of the machine that ran it say nothing to readers: their last part stays."""
    return re.sub(r"(?<![\w.:])/(?:[\w.@+-]+/)+([\w.@+-]+)", r"\1", text)


def escape(text: str) -> str:
    return text.replace("|", "&#124;").replace("<", "&lt;")


def unescape(text: str) -> str:
    return text.replace("&#124;", "|").replace("&lt;", "<")
